// The drawer with a conversation's settings, and what holds for the whole page.
import { el, icon_button, toast } from "./dom";
import {
  default_settings, json_trouble, kNumbers, type NumberField, type Settings, stops_typed, typed_stops, valid_number,
} from "./settings";
import { remember, remembered } from "./store";

export type Theme = "system" | "light" | "dark";

export const theme_now = (): Theme => {
  const theme = remembered("theme");
  return theme === "light" || theme === "dark" ? theme : "system";
};

export function set_theme(theme: Theme) {
  remember("theme", theme === "system" ? null : theme);
  if (theme === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
}

let last_id = 0;

// A label, a field, and a place for what is wrong with it.
function row(label: string, hint: string, field: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement) {
  field.id = `field-${++last_id}`;
  field.classList.add("field");
  const trouble = el("span", { class: "field-trouble", id: `${field.id}-trouble`, role: "alert" });
  field.setAttribute("aria-describedby", trouble.id);
  const element = el("div", { class: "row" }, el("label", { for: field.id }, label), field, hint ? el("span", { class: "hint" }, hint) : null, trouble);
  const complain = (text: string) => {
    trouble.textContent = text;
    if (text) field.setAttribute("aria-invalid", "true"); else field.removeAttribute("aria-invalid");
  };
  return { element, complain };
}

export interface DialogActions {
  changed(): void;      // the conversation's settings
  key_changed(): void;
  keep_as_default(settings: Settings): void;
}

export function open_settings(settings: Settings, actions: DialogActions) {
  const dialog = el("dialog", { class: "drawer", "aria-label": "Settings" });
  const refill: (() => void)[] = [];

  const text_row = (label: string, hint: string, rows: number, get: () => string, set: (text: string) => void, check: (text: string) => string = () => "") => {
    const area = el("textarea", { rows, spellcheck: String(label === "System prompt") });
    const { element, complain } = row(label, hint, area);
    area.addEventListener("input", () => { set(area.value); complain(check(area.value)); actions.changed(); });
    refill.push(() => { area.value = get(); complain(check(area.value)); });
    return element;
  };

  const number_row = (field: NumberField) => {
    const input = el("input", { type: "text", inputmode: field.step === 1 ? "numeric" : "decimal", placeholder: "default", autocomplete: "off" });
    const { element, complain } = row(field.label, field.hint, input);
    input.addEventListener("input", () => {
      const text = input.value.trim().replace(",", ".");
      const value = Number(text);
      const right = text === "" || valid_number(field, value);
      complain(right ? "" : `expected ${field.step === 1 ? "a whole number" : "a number"} from ${field.min} to ${field.max}`);
      if (!right) return;
      if (text === "") delete settings[field.name]; else settings[field.name] = value;
      actions.changed();
    });
    refill.push(() => { input.value = settings[field.name] === undefined ? "" : String(settings[field.name]); complain(""); });
    element.classList.add("row-short");
    return element;
  };

  const theme = el("select", {}, ...(["system", "light", "dark"] as const).map((value) =>
    el("option", { value }, { system: "As the system", light: "Light", dark: "Dark" }[value])));
  theme.value = theme_now();
  theme.addEventListener("change", () => set_theme(theme.value as Theme));

  const key = el("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "none" });
  key.value = remembered("key") ?? "";
  key.addEventListener("change", () => { remember("key", key.value.trim() || null); actions.key_changed(); });

  dialog.append(
    el("div", { class: "drawer-head" }, el("h2", {}, "Settings"), icon_button("close", "Close", () => dialog.close())),
    el("div", { class: "drawer-body" },
      el("section", {},
        el("h3", {}, "This chat"),
        text_row("System prompt", "", 4, () => settings.system, (text) => { settings.system = text; }),
        el("div", { class: "numbers" }, ...kNumbers.map(number_row)),
        text_row("Stop at", "one text a line; \\n stands for a new line", 2, () => typed_stops(settings.stop), (text) => { settings.stop = stops_typed(text); }),
        text_row("JSON schema", "the answer will fit it", 3, () => settings.schema, (text) => { settings.schema = text; }, (text) => json_trouble(text, "object")),
        text_row("Tools", "a JSON list of functions; you type their results", 3, () => settings.tools, (text) => { settings.tools = text; }, (text) => json_trouble(text, "list")),
        el("div", { class: "drawer-buttons" },
          el("button", { type: "button", class: "button", on: { click: () => {
            actions.keep_as_default(settings);
            toast("New chats start with these settings");
          } } }, "Use for new chats"),
          el("button", { type: "button", class: "button", on: { click: () => {
            for (const name of Object.keys(settings) as (keyof Settings)[]) delete settings[name];
            Object.assign(settings, default_settings());
            for (const fill of refill) fill();
            actions.changed();
          } } }, "Reset"))),
      el("section", {},
        el("h3", {}, "This browser"),
        row("Appearance", "", theme).element,
        row("API key", "kept in this browser, sent to this server only", key).element),
      el("p", { class: "about" }, "mlx_lm chat · ", el("a", { href: "licenses.txt", target: "_blank", rel: "noopener" }, "licenses"))));
  for (const fill of refill) fill();
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
