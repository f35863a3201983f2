// Where the reader types.
import { el, fit_height, icon } from "./dom";

export interface ComposerActions {
  send(text: string): void;
  stop(): void;
  edit_last(): boolean;
}

export class Composer {
  readonly element: HTMLElement;
  #area: HTMLTextAreaElement;
  #button: HTMLButtonElement;
  #busy = false;

  constructor(private actions: ComposerActions) {
    this.#area = el("textarea", { rows: 1, placeholder: "Message", "aria-label": "Message", enterkeyhint: "send" });
    this.#button = el("button", { type: "button", class: "send", on: { click: () => (this.#busy ? actions.stop() : this.#send()) } });
    this.#area.addEventListener("input", () => this.#typed());
    this.#area.addEventListener("keydown", (event) => this.#key(event));
    const box = el("div", { class: "composer-box", on: { click: (event) => { if (event.target === box) this.focus(); } } }, this.#area, this.#button);
    this.element = el("div", { class: "composer" }, el("div", { class: "composer-inner" }, box));
    this.set_busy(false);
  }

  get text() { return this.#area.value; }
  set text(text: string) { this.#area.value = text; this.#typed(); }

  set placeholder(text: string) { this.#area.placeholder = text; }

  focus() { this.#area.focus({ preventScroll: true }); }

  set_busy(busy: boolean) {
    this.#busy = busy;
    this.#button.replaceChildren(icon(busy ? "stop" : "up"));
    const label = busy ? "Stop" : "Send";
    this.#button.setAttribute("aria-label", label);
    this.#button.title = busy ? "Stop (Esc)" : "Send (Enter)";
    this.#typed();
  }

  #typed() {
    fit_height(this.#area);
    this.#button.disabled = !this.#busy && this.#area.value.trim() === "";
  }

  #send() {
    const text = this.#area.value.trim();
    if (!text || this.#busy) return;
    this.text = "";
    this.actions.send(text);
  }

  #key(event: KeyboardEvent) {
    if (event.isComposing) return;
    // On a screen's keyboard Enter is the only way to a new line.
    const touch = matchMedia("(hover: none) and (pointer: coarse)").matches;
    if (event.key === "Enter" && !event.shiftKey && !touch) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "ArrowUp" && this.#area.value === "" && !this.#busy) {
      if (this.actions.edit_last()) event.preventDefault();
    }
  }
}
