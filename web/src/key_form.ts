// Asks for the server's key, which stays in this browser and goes nowhere but to the server that the page came from.
import { el } from "./dom";
import { remember, remembered } from "./store";

export function key_form(saved: () => void): HTMLElement {
  const field = el("input", { type: "password", class: "field", name: "key", autocomplete: "off", spellcheck: "false", placeholder: "API key", "aria-label": "API key" });
  field.value = remembered("key") ?? "";
  const save = () => {
    const key = field.value.trim();
    if (!key) return field.focus();
    remember("key", key);
    saved();
  };
  // No <form>: the page's policy lets nothing be submitted, and Enter is all that one would bring.
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); save(); } });
  return el("div", { class: "key-form" }, field, el("button", { type: "button", class: "button primary", on: { click: save } }, "Use this key"));
}
