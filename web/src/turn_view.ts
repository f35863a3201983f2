// One turn on the page.
import type { Conversation, ToolCall, Turn } from "./conversation";
import { versions } from "./conversation";
import { announce, copy_text, el, fit_height, icon, icon_button } from "./dom";
import { code_element, MarkdownView } from "./markdown";
import { key_form } from "./key_form";

export interface TurnActions {
  edit(turn: Turn, text: string): void;
  regenerate(turn: Turn): void;
  retry(turn: Turn): void;
  branch(turn: Turn): void;
  show(turn: Turn): void;
}

// What an answer is doing that is not kept with it.
export interface Live {
  progress?: { done: number; total: number };
  pieces: number;
  started: number;      // performance.now()
  first?: number;       // of the first piece
  thinking_since?: number;
}

const kSeconds = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const kCount = new Intl.NumberFormat();
const seconds = (ms: number) => `${ms < 995 ? (ms / 1000).toFixed(2) : kSeconds.format(ms / 1000)} s`;
const speed = (tokens: number, ms: number) => `${kSeconds.format((tokens * 1000) / ms)} tok/s`;

function pretty_json(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

const kFinish: Record<string, string> = {
  length: "Cut off at the token limit", stopped: "Stopped", interrupted: "Interrupted when the page closed",
};

export class TurnView {
  readonly element: HTMLElement;
  #markdown: MarkdownView | null = null;
  #body = el("div", { class: "body" });
  #wait = el("div", { class: "wait" });
  #reasoning: { box: HTMLDetailsElement; label: HTMLElement; text: Text } | null = null;
  #calls = el("div", { class: "calls" });
  #calls_drawn = "";
  #trouble = el("div", { class: "trouble" });
  #trouble_drawn = "";
  #bar = el("div", { class: "bar" });
  #stats = el("span", { class: "stats" });
  #live_stats = el("span", { class: "stats" });
  #bar_drawn = "";
  #stats_drawn = "";
  #drawn = { content: "", final: false };

  constructor(readonly conversation: Conversation, readonly turn: Turn, private actions: TurnActions) {
    const label = turn.role === "user" ? "You" : turn.role === "tool" ? "Tool result" : "Answer";
    this.element = el("article", { class: `turn ${turn.role}`, "aria-label": label, data: { id: turn.id } });
    this.element.append(this.#wait, this.#body, this.#calls, this.#trouble, this.#bar);
    if (turn.role === "assistant") {
      this.#markdown = new MarkdownView();
      this.#body.append(this.#markdown.element);
    }
    this.update(null);
  }

  // live: the answer is coming in.
  update(live: Live | null) {
    const { turn } = this;
    if (turn.role === "user") {
      this.#body.textContent = turn.content;
    } else if (turn.role === "tool") {
      this.#body.replaceChildren(el("details", { class: "reasoning" }, el("summary", {}, icon("tool"), "Tool result"),
        code_element(pretty_json(turn.content), "json")));
    } else if (turn.content !== this.#drawn.content || !live !== this.#drawn.final) {
      this.#markdown!.set(turn.content, !live);
      this.#drawn = { content: turn.content, final: !live };
    }
    this.element.classList.toggle("live", !!live);
    this.element.setAttribute("aria-busy", String(!!live));
    this.#update_reasoning(live);
    this.#update_wait(live);
    this.#update_calls();
    this.#update_trouble();
    this.#update_bar(live);
  }

  #update_reasoning(live: Live | null) {
    const { turn } = this;
    if (!turn.reasoning) {
      this.#reasoning?.box.remove();
      this.#reasoning = null;
      return;
    }
    if (!this.#reasoning) {
      const text = document.createTextNode("");
      const label = el("span", {});
      const box = el("details", { class: "reasoning" }, el("summary", {}, icon("right"), label), el("div", { class: "thoughts" }, text));
      this.#reasoning = { box, label, text };
      this.#body.before(box);
    }
    const { label, text, box } = this.#reasoning;
    if (text.data !== turn.reasoning) {
      // Only what is new, so that a selection in it stays.
      if (turn.reasoning.startsWith(text.data)) text.appendData(turn.reasoning.slice(text.length)); else text.data = turn.reasoning;
    }
    const thinking = !!live && live.thinking_since !== undefined;
    const ms = thinking ? performance.now() - live.thinking_since! : turn.reasoning_ms;
    const words = thinking ? `Thinking for ${Math.floor(ms! / 1000)} s` : ms === undefined ? "Thoughts" : `Thought for ${seconds(ms)}`;
    if (label.textContent !== words) label.textContent = words;
    box.classList.toggle("thinking", thinking);
  }

  #update_wait(live: Live | null) {
    const waiting = !!live && live.first === undefined;
    this.#wait.hidden = !waiting;
    if (!waiting) return;
    const progress = live.progress;
    if (!this.#wait.firstChild) this.#wait.append(el("span", { class: "dots", "aria-hidden": true }, el("i"), el("i"), el("i")), el("span", { class: "wait-text" }));
    this.#wait.lastElementChild!.textContent =
      progress && progress.total > 0 ? `Reading the prompt: ${kCount.format(progress.done)} of ${kCount.format(progress.total)} tokens` : "";
    let bar = this.#wait.querySelector("progress");
    if (progress && !bar) this.#wait.firstElementChild!.after((bar = el("progress", { max: 1, "aria-label": "Prompt read" })));
    if (progress && bar) bar.value = progress.total > 0 ? progress.done / progress.total : 0;
  }

  #update_calls() {
    const calls = this.turn.tool_calls ?? [];
    const key = JSON.stringify(calls);
    if (key === this.#calls_drawn) return;
    this.#calls_drawn = key;
    this.#calls.replaceChildren(...calls.map((call: ToolCall) =>
      el("div", { class: "call" }, el("div", { class: "call-name" }, icon("tool"), "Calls ", el("b", {}, call.name || "a tool")),
        code_element(pretty_json(call.arguments), "json"))));
  }

  #update_trouble() {
    const { error } = this.turn;
    const key = JSON.stringify(error ?? null);
    if (key === this.#trouble_drawn) return;
    this.#trouble_drawn = key;
    this.#trouble.replaceChildren();
    if (!error) return;
    const retry = () => this.actions.retry(this.turn);
    this.#trouble.append(el("div", { class: "error", role: "alert" },
      el("p", {}, error.message),
      error.status === 401 ? key_form(retry)
        : el("button", { type: "button", class: "button", on: { click: retry } }, icon("retry"), "Try again")));
  }

  #update_bar(live: Live | null) {
    const { turn, actions } = this;
    const list = versions(this.conversation, turn.parent);
    const at = list.indexOf(turn);
    const key = `${!!live} ${at}/${list.length} ${turn.content !== ""} ${!!turn.error}`;
    if (key !== this.#bar_drawn) {
      this.#bar_drawn = key;
      const switcher = list.length > 1 && el("span", { class: "versions", role: "group", "aria-label": "Versions" },
        this.#step("left", "Previous version", list[at - 1]), el("span", {}, `${at + 1}/${list.length}`),
        this.#step("right", "Next version", list[at + 1]));
      const copy = icon_button("copy", "Copy", () => void copy_text(turn.content, copy), "copies");
      copy.append(icon("check"));
      const own = turn.role === "assistant";
      this.#bar.replaceChildren(...[
        switcher,
        turn.content !== "" && copy,
        turn.role !== "tool" && icon_button("pencil", "Edit", () => this.edit()),
        own && icon_button("retry", "Regenerate", () => actions.regenerate(turn)),
        icon_button("branch", "Continue in a new chat from here", () => actions.branch(turn)),
        own && (live ? this.#live_stats : this.#stats),
      ].filter((part): part is HTMLElement => part instanceof Node));
    }
    if (turn.role !== "assistant") return;
    const stats = live ? this.#live_stats : this.#stats;
    const words = live ? live_words(live) : stats_words(turn);
    if (this.#stats_drawn === words) return;
    this.#stats_drawn = words;
    // "first token": a phone's width has no room for the second word.
    const [before, after] = words.split("first token ");
    stats.replaceChildren(before, ...(after === undefined ? [] : ["first ", el("span", { class: "only-wide" }, "token "), after]));
    stats.title = live ? "" : stats_title(turn);
  }

  #step(name: "left" | "right", label: string, to: Turn | undefined) {
    const button = icon_button(name, label, () => to && this.actions.show(to));
    button.disabled = !to;
    return button;
  }

  get editing() { return this.element.classList.contains("editing"); }

  // Puts a field where the text is.
  edit() {
    if (this.editing || this.element.classList.contains("live")) return;
    const { turn } = this;
    const area = el("textarea", { class: "edit-text", "aria-label": "Edit", rows: 1 });
    area.value = turn.content;
    const close = () => {
      form.remove();
      this.element.classList.remove("editing");
      this.element.querySelector<HTMLElement>('[aria-label="Edit"]')?.focus({ preventScroll: true });
    };
    const save = () => {
      const text = area.value.trim();
      if (!text) return area.focus();
      close();
      if (text !== turn.content.trim() || turn.role === "user") this.actions.edit(turn, text);
    };
    area.addEventListener("input", () => fit_height(area));
    area.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        close();
        announce("Edit cancelled");
      } else if (event.key === "Enter" && (turn.role === "user" ? !event.shiftKey : event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        save();
      }
    });
    const form = el("div", { class: "edit" }, area, el("div", { class: "edit-buttons" },
      el("button", { type: "button", class: "button", on: { click: close } }, "Cancel"),
      el("button", { type: "button", class: "button primary", on: { click: save } }, turn.role === "user" ? "Send" : "Save")));
    this.element.classList.add("editing");
    this.element.append(form);
    fit_height(area);
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

function live_words(live: Live): string {
  if (live.first === undefined) return "";
  const ms = performance.now() - live.first;
  return ms > 300 && live.pieces > 2 ? `${speed(live.pieces - 1, ms)}` : "";
}

// The first token comes with the prompt's work, so the speed is that of the others.
function stats_words(turn: Turn): string {
  const { stats, finish } = turn;
  const words: string[] = [];
  if (finish && kFinish[finish]) words.push(kFinish[finish]);
  if (stats?.completion !== undefined) {
    words.push(`${kCount.format(stats.completion)} ${stats.completion === 1 ? "token" : "tokens"}`);
    if (stats.completion > 1 && stats.decode_ms) words.push(speed(stats.completion - 1, stats.decode_ms));
  }
  if (stats?.first_ms !== undefined) words.push(`first token ${seconds(stats.first_ms)}`);
  return words.join(" · ");
}

function stats_title({ stats, model }: Turn): string {
  const lines: string[] = [];
  if (model) lines.push(model);
  if (stats?.prompt !== undefined) {
    lines.push(`Prompt: ${kCount.format(stats.prompt)} tokens${stats.cached ? `, ${kCount.format(stats.cached)} from the cache` : ""}`);
  }
  return lines.join("\n");
}
