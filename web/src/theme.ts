// Runs before the first paint, so that a chosen appearance does not flash in.
try {
  const theme = localStorage.getItem("mlx_lm.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is closed to this page: the system's appearance.
}
