// The list of conversations.
import type { Conversation } from "./conversation";
import { el, icon, icon_button } from "./dom";

export interface SidebarActions {
  create(): void;
  open(c: Conversation): void;
  rename(c: Conversation, title: string): void;
  remove(c: Conversation): void;
  export_one(c: Conversation): void;
  export_all(): void;
  import_file(file: File): void;
  close(): void;
}

const kDay = 86_400_000;

function age(time: number): string {
  const today = new Date().setHours(0, 0, 0, 0);
  if (time >= today) return "Today";
  if (time >= today - kDay) return "Yesterday";
  if (time >= today - 7 * kDay) return "Last 7 days";
  if (time >= today - 30 * kDay) return "Last 30 days";
  return "Earlier";
}

export class Sidebar {
  readonly element: HTMLElement;
  #search: HTMLInputElement;
  #list = el("nav", { class: "chats", "aria-label": "Conversations" });
  #all: Conversation[] = [];
  #current = "";
  #busy = new Set<string>();
  #renaming = "";

  constructor(private actions: SidebarActions) {
    this.#search = el("input", { type: "search", class: "field", placeholder: "Search", "aria-label": "Search conversations" });
    let timer = 0;
    this.#search.addEventListener("input", () => { clearTimeout(timer); timer = window.setTimeout(() => this.#draw(), 100); });
    const file = el("input", { type: "file", accept: ".json,application/json", hidden: true, class: "import-file" });
    file.addEventListener("change", () => {
      if (file.files?.[0]) actions.import_file(file.files[0]);
      file.value = "";
    });
    this.element = el("aside", { class: "sidebar", id: "sidebar", "aria-label": "Chats" },
      el("div", { class: "sidebar-top" },
        el("a", { class: "brand", href: "./", on: { click: (event) => { event.preventDefault(); actions.create(); } } },
          el("img", { src: "icon.svg", alt: "", width: 22, height: 22 }), "mlx_lm"),
        icon_button("close", "Close the list", actions.close, "only-narrow")),
      el("button", { type: "button", class: "new-chat", title: "New chat (Ctrl K)", on: { click: actions.create } }, icon("plus"), el("span", {}, "New chat"),
        el("kbd", { class: "only-wide", "aria-hidden": true }, /Mac|iP/.test(navigator.platform) ? "⌘K" : "Ctrl K")),
      el("div", { class: "search" }, icon("search"), this.#search),
      this.#list,
      el("div", { class: "sidebar-foot" },
        el("button", { type: "button", class: "quiet", on: { click: () => file.click() } }, icon("upload"), "Import"),
        el("button", { type: "button", class: "quiet", on: { click: actions.export_all } }, icon("download"), "Export all"), file));
  }

  update(all: Conversation[], current: string, busy: Set<string>) {
    this.#all = all;
    this.#current = current;
    this.#busy = busy;
    if (!this.#renaming) this.#draw();
  }

  #found(): Conversation[] {
    const words = this.#search.value.trim().toLowerCase();
    const list = words === "" ? this.#all : this.#all.filter((c) =>
      c.title.toLowerCase().includes(words) || c.turns.some((turn) => turn.content.toLowerCase().includes(words)));
    return list.slice().sort((a, b) => b.updated - a.updated);
  }

  #draw() {
    const focused = this.#list.contains(document.activeElement) ? document.activeElement?.closest<HTMLElement>("[data-id]")?.dataset.id : undefined;
    const parts: HTMLElement[] = [];
    let group = "";
    for (const c of this.#found()) {
      const name = age(c.updated);
      if (name !== group) parts.push(el("h2", {}, (group = name)));
      parts.push(this.#item(c));
    }
    if (!parts.length) parts.push(el("p", { class: "nothing" }, this.#all.length ? "Nothing found" : "Conversations stay in this browser."));
    this.#list.replaceChildren(...parts);
    if (focused) this.#list.querySelector<HTMLElement>(`[data-id="${CSS.escape(focused)}"] .chat-title`)?.focus();
  }

  #item(c: Conversation): HTMLElement {
    const here = c.id === this.#current;
    const item: HTMLElement = el("div", { class: `chat${here ? " here" : ""}${this.#busy.has(c.id) ? " busy" : ""}`, data: { id: c.id } },
      el("button", { type: "button", class: "chat-title", title: c.title, "aria-current": here ? "page" : null,
        on: { click: () => this.actions.open(c), dblclick: () => this.#rename(c, item) } }, c.title),
      el("span", { class: "chat-buttons" },
        icon_button("pencil", "Rename", () => this.#rename(c, item)),
        icon_button("download", "Export", () => this.actions.export_one(c)),
        icon_button("trash", "Delete", () => this.actions.remove(c))));
    return item;
  }

  #rename(c: Conversation, item: HTMLElement) {
    const field = el("input", { class: "field rename", "aria-label": "Title", maxlength: 200 });
    field.value = c.title;
    this.#renaming = c.id;
    const done = (keep: boolean) => {
      if (!this.#renaming) return;
      this.#renaming = "";
      const title = field.value.trim();
      if (keep && title && title !== c.title) this.actions.rename(c, title); else this.#draw();
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter" || event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        done(event.key === "Enter");
      }
    });
    field.addEventListener("blur", () => done(true));
    item.replaceChildren(field);
    field.focus();
    field.select();
  }
}
