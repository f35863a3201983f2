// The conversation that is shown: one view for each turn, and where it is scrolled to.
import { type Conversation, path, type Turn } from "./conversation";
import { el, icon } from "./dom";
import { type Live, type TurnActions, TurnView } from "./turn_view";

const kAtEnd = 48;       // pixels from the end that still count as there
const kDrawnAtOnce = 8;  // turns; those before them follow when the page is idle

export class Thread {
  readonly element: HTMLElement;
  #list = el("div", { class: "turns" });
  #empty = el("div", { class: "empty" });
  #to_end: HTMLButtonElement;
  #views: TurnView[] = [];
  #conversation: Conversation | null = null;
  #follows = true;  // keeps the end in sight
  #dirty = new Set<string>();
  #frame = 0;
  #not_before = 0;
  #idle = 0;

  constructor(private actions: TurnActions, private live_of: (turn: Turn) => Live | null) {
    this.#to_end = el("button", { type: "button", class: "to-end", "aria-label": "To the latest", title: "To the latest", hidden: true,
      on: { click: () => { this.#follows = true; this.#scroll(); } } }, icon("down"));
    this.element = el("main", { class: "thread", id: "thread", tabindex: -1, "aria-label": "Conversation" }, this.#empty, this.#list);
    this.element.append(el("div", { class: "to-end-place" }, this.#to_end));
    // A reader who moves away is let go at once: by the time the scroll event comes, a new piece may have pulled back.
    const let_go = () => { if (this.element.scrollHeight > this.element.clientHeight) this.#follows = false; };
    this.element.addEventListener("wheel", (event) => { if (event.deltaY < 0) let_go(); }, { passive: true });
    this.element.addEventListener("touchmove", let_go, { passive: true });
    this.element.addEventListener("keydown", (event) => { if (["PageUp", "Home", "ArrowUp"].includes(event.key) && event.target === this.element) let_go(); });
    let last_top = 0;
    this.element.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.element;
      const left = scrollHeight - scrollTop - clientHeight;
      const at_end = left < kAtEnd;
      if (left < 2 || (at_end && scrollTop > last_top)) this.#follows = true; else if (scrollTop < last_top) this.#follows = false;
      last_top = scrollTop;
      this.#offer_end();
    }, { passive: true });
    const resized = new ResizeObserver(() => { if (this.#follows) this.#scroll(); this.#offer_end(); });
    resized.observe(this.#list);
    resized.observe(this.element);
  }

  set_empty(...content: Node[]) { this.#empty.replaceChildren(...content); }

  // Draws what is not drawn yet of the conversation's path; to_end: and goes to its end.
  show(conversation: Conversation, to_end: boolean) {
    const other = this.#conversation !== conversation;
    const turns = path(conversation);
    this.#empty.hidden = turns.length > 0;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    clearTimeout(this.#idle);
    if (other) {
      this.#conversation = conversation;
      this.#views = [];
      this.#list.replaceChildren();
    }
    let same = 0;
    const first = this.#views.length ? turns.indexOf(this.#views[0].turn) : -1;
    if (first >= 0) while (same < this.#views.length && this.#views[same].turn === turns[first + same]) same++;
    for (const view of this.#views.splice(same)) view.element.remove();
    const from = same > 0 ? first + same : Math.max(0, turns.length - kDrawnAtOnce);
    for (const turn of turns.slice(from)) {
      const view = this.#view(conversation, turn);
      this.#views.push(view);
      this.#list.append(view.element);
    }
    for (const view of this.#views.slice(0, same)) view.update(this.live_of(view.turn));
    if (to_end) this.#follows = true;
    if (this.#follows) this.#scroll();
    this.#draw_earlier(conversation, turns, turns.indexOf(this.#views[0]?.turn));
  }

  #view(conversation: Conversation, turn: Turn) {
    const view = new TurnView(conversation, turn, this.actions);
    const live = this.live_of(turn);
    if (live) view.update(live);
    return view;
  }

  // What is on the screen stays in place while these come in above it.
  #draw_earlier(conversation: Conversation, turns: Turn[], end: number) {
    if (end <= 0) return;
    this.#idle = window.setTimeout(() => {
      if (this.#conversation !== conversation) return;
      const start = performance.now();
      const batch: TurnView[] = [];
      while (end > 0 && performance.now() - start < 8) batch.unshift(this.#view(conversation, turns[--end]));
      this.#views.unshift(...batch);
      const before = this.element.scrollHeight - this.element.scrollTop;
      this.#list.prepend(...batch.map((view) => view.element));
      this.element.scrollTop = this.element.scrollHeight - before;
      this.#draw_earlier(conversation, turns, end);
    }, 0);
  }

  // Draws a turn anew with the next frame, or a later one when drawing takes long.
  touch(turn: Turn) {
    this.#dirty.add(turn.id);
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    if (performance.now() < this.#not_before) {
      this.#frame = requestAnimationFrame(() => this.#draw());
      return;
    }
    const start = performance.now();
    for (const view of this.#views.slice().reverse()) {
      if (!this.#dirty.size) break;
      if (this.#dirty.delete(view.turn.id)) view.update(this.live_of(view.turn));
    }
    this.#dirty.clear();
    if (this.#follows) this.#scroll();
    const now = performance.now();
    this.#not_before = now - start > 6 ? now + 3 * (now - start) : 0;
  }

  #offer_end() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const hidden = this.#follows || scrollHeight - scrollTop - clientHeight < kAtEnd;
    if (this.#to_end.hidden !== hidden) this.#to_end.hidden = hidden;
  }

  #scroll() { this.element.scrollTop = this.element.scrollHeight; }

  // Edits the reader's last turn.
  edit_last(): boolean {
    const view = this.#views.filter((view) => view.turn.role === "user").at(-1);
    view?.edit();
    view?.element.scrollIntoView({ block: "nearest" });
    return !!view;
  }
}
