// Elements in one expression. Text goes in as text nodes only; nothing here parses HTML.

type Handlers = { [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };
type Props = { class?: string; on?: Handlers; data?: Record<string, string> } & {
  [attribute: string]: unknown;
};
export type Child = Node | string | null | false | undefined;

export function el<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, handler] of Object.entries(value as object)) element.addEventListener(event, handler);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.filter((child): child is Node | string => child !== null && child !== false && child !== undefined));
  return element;
}

const kIcons = {
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14M20 20l-4-4",
  pencil: "M4 20l1-4L16.5 4.5a1.9 1.9 0 0 1 2.7 0l.3.3a1.9 1.9 0 0 1 0 2.7L8 19l-4 1M14.5 6.5l3 3",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12M10.5 11v5M13.5 11v5",
  download: "M12 4v11M7.5 11L12 15.5 16.5 11M5 20h14",
  upload: "M12 16V5M7.5 9L12 4.5 16.5 9M5 20h14",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  retry: "M19 12a7 7 0 1 1-2.2-5.1M19 3.5V8h-4.5",
  branch: "M7 4v16M7 14c0-4 10-2 10-7M4.5 4h5M14.5 7h5",
  left: "M14.5 6L9 12l5.5 6",
  right: "M9.5 6L15 12l-5.5 6",
  up: "M12 19V6M6 11.500L12 5.500l6 6",
  down: "M12 5v13M6 12.500l6 6 6-6",
  stop: "M7.5 7.500h9v9h-9z",
  sliders: "M4 8h9M17 8h3M15 6v4M4 16h3M11 16h9M9 14v4",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.600L7 7M17 17l1.4 1.400M5.6 18.400L7 17M17 7l1.4-1.4",
  moon: "M19.5 14.500A8 8 0 0 1 9.5 4.500a8 8 0 1 0 10 10",
  close: "M6 6l12 12M18 6L6 18",
  tool: "M8 7.5L3.5 12 8 16.5M16 7.5l4.5 4.5-4.5 4.5M13.8 5l-3.6 14",
} as const;
export type Icon = keyof typeof kIcons;

const kSvg = "http://www.w3.org/2000/svg";

export function icon(name: Icon): SVGSVGElement {
  const svg = document.createElementNS(kSvg, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon icon-${name}`);
  const path = document.createElementNS(kSvg, "path");
  path.setAttribute("d", kIcons[name]);
  svg.append(path);
  return svg;
}

export function icon_button(name: Icon, label: string, click: (event: MouseEvent) => void, extra = ""): HTMLButtonElement {
  return el("button", { type: "button", class: `icon-button ${extra}`, "aria-label": label, title: label, on: { click } }, icon(name));
}

// What a screen reader should hear, since streamed text itself is too much of it.
let status: HTMLElement | null = null;
export function announce(text: string) {
  if (!status) document.body.append((status = el("div", { role: "status", class: "unseen" })));
  status.textContent = text;
}

// A line at the bottom that goes by itself.
let toast_timer = 0;
export function toast(text: string, action?: { label: string; click: () => void }) {
  document.querySelector(".toast")?.remove();
  clearTimeout(toast_timer);
  const box = el("div", { class: "toast", role: "status" }, el("span", {}, text),
    action && el("button", { type: "button", class: "link", on: { click: () => { box.remove(); action.click(); } } }, action.label));
  document.body.append(box);
  toast_timer = window.setTimeout(() => box.remove(), action ? 8000 : 3500);
}

export async function copy_text(text: string, button: HTMLElement) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http on another machine is no secure context and has no clipboard.
    const area = el("textarea", { class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  announce(done ? "Copied" : "Could not copy");
  if (!done) return;
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1500);
}

export function save_file(name: string, text: string) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// As tall as its text, up to what the style sheet allows.
export function fit_height(area: HTMLTextAreaElement) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}
