// The page: which conversation is shown, what is being answered, and where that is kept.
import { type Answer, run_answer, uses_tools } from "./answer";
import { ApiError, list_models } from "./api";
import { Composer } from "./composer";
import * as chats from "./conversation";
import type { Conversation, Turn } from "./conversation";
import { announce, el, icon, icon_button, save_file, toast } from "./dom";
import { key_form } from "./key_form";
import { default_settings, request_fields, type Settings, valid_settings } from "./settings";
import { open_settings, set_theme } from "./settings_dialog";
import { Sidebar } from "./sidebar";
import * as store from "./store";
import { Thread } from "./thread";

const kDefaultModel = "default_model";  // the server's own, as its API calls it
const kSaveEvery = 1000;                // ms, while an answer comes in

let conversations: Conversation[] = [];
let current = chats.new_conversation(defaults(), "");  // joins the others with its first turn
let models: string[] = [];
const answers = new Map<string, Answer>();  // by conversation
const drafts = new Map<string, string>();
const save_timers = new Map<string, number>();

function defaults(): Settings {
  try {
    return valid_settings(JSON.parse(store.remembered("defaults") ?? "null")) ?? default_settings();
  } catch {
    return default_settings();
  }
}

const live_of = (turn: Turn) => {
  for (const answer of answers.values()) if (answer.turn === turn) return answer.live;
  return null;
};

// --- parts of the page ---

const narrow = matchMedia("(max-width: 800px)");
const sidebar = new Sidebar({
  create: () => new_chat(), open: (c) => { open(c); close_sidebar(); }, rename, remove, export_one: (c) => export_chats([c], c.title),
  export_all: () => export_chats(conversations, "mlx_lm chats"), import_file: (file) => void import_file(file), close: close_sidebar,
});
const thread = new Thread({ edit, regenerate, retry, branch, show: show_version }, live_of);
const composer = new Composer({ send, stop, edit_last: () => thread.edit_last() });

const picker = el("select", { class: "picker", "aria-label": "Model" });
picker.addEventListener("change", () => {
  current.model = picker.value;
  store.remember("model", picker.value);
  if (conversations.includes(current)) save(current);
  draw_empty();
});
picker.addEventListener("pointerdown", () => { if (!models.length) void load_models(); });

const menu_button = icon_button("menu", "Show or hide the list", () => toggle_sidebar());
menu_button.setAttribute("aria-controls", "sidebar");
const theme_button = icon_button("sun", "Light or dark", () => {
  set_theme(matchMedia("(prefers-color-scheme: dark)").matches === (document.documentElement.dataset.theme === undefined) ||
    document.documentElement.dataset.theme === "dark" ? "light" : "dark");
}, "theme-button");
theme_button.append(icon("moon"));
const settings_button = icon_button("sliders", "Settings", () => open_settings(current.settings, {
  changed: () => { if (conversations.includes(current)) save_soon(current); draw_settings_mark(); draw_composer(); },
  key_changed: () => void load_models(),
  keep_as_default: (settings) => store.remember("defaults", JSON.stringify(settings)),
}), "settings-button");
const notice = el("div", { class: "notice" });
const scrim = el("div", { class: "scrim", on: { click: close_sidebar } });

document.body.append(
  el("a", { class: "skip", href: "#thread", on: { click: (event) => { event.preventDefault(); composer.focus(); } } }, "To the message field"),
  sidebar.element, scrim,
  el("div", { class: "main" },
    el("header", { class: "head" }, menu_button, picker, el("span", { class: "gap" }),
      icon_button("plus", "New chat", () => new_chat(), "only-narrow"), theme_button, settings_button),
    notice, thread.element, composer.element));

function toggle_sidebar() {
  if (narrow.matches) {
    document.body.classList.toggle("sidebar-open");
  } else {
    store.remember("sidebar", document.body.classList.toggle("no-sidebar") ? "hidden" : null);
  }
  draw_menu_button();
}
function close_sidebar() {
  document.body.classList.remove("sidebar-open");
  draw_menu_button();
}
function draw_menu_button() {
  const shown = narrow.matches ? document.body.classList.contains("sidebar-open") : !document.body.classList.contains("no-sidebar");
  menu_button.setAttribute("aria-expanded", String(shown));
}

function draw_settings_mark() {
  settings_button.classList.toggle("marked", current.settings.system.trim() !== "" || Object.keys(request_fields(current.settings)).length > 0);
}

function draw_sidebar() { sidebar.update(conversations, current.id, new Set(answers.keys())); }

function draw_empty() {
  const key = (name: string, text: string) => el("span", {}, el("kbd", {}, name), ` ${text}`);
  thread.set_empty(
    el("img", { src: "icon.svg", alt: "", width: 44, height: 44 }),
    el("h1", {}, "What would you like to know?"),
    el("p", { class: "only-wide keys" }, key("Enter", "sends"), key("Shift Enter", "new line"), key("↑", "edits the last message"), key("Esc", "stops")));
}

function draw_picker() {
  picker.replaceChildren();
  const add = (value: string, label: string) => picker.append(el("option", { value }, label));
  if (models.length !== 1) add(kDefaultModel, "Default model");
  for (const model of models) add(model, model.split("/").pop() || model);
  if (current.model && current.model !== kDefaultModel && !models.includes(current.model)) {
    if (models.length === 1) current.model = ""; else add(current.model, current.model.split("/").pop()!);
  }
  picker.value = current.model || picker.options[0].value;
  picker.title = picker.value === kDefaultModel ? "" : picker.value;
}

function draw_composer() {
  composer.set_busy(answers.has(current.id));
  const call = open_call();
  composer.placeholder = call ? `Result of ${call.name}` : "Message";
}

function draw(to_end: boolean) {
  document.title = current.turns.length ? `${current.title} · mlx_lm` : "mlx_lm";
  thread.show(current, to_end);
  draw_picker();
  draw_composer();
  draw_settings_mark();
  draw_sidebar();
}

// --- keeping ---

function save(c: Conversation) {
  clearTimeout(save_timers.get(c.id));
  save_timers.delete(c.id);
  void store.save(c);
}
function save_soon(c: Conversation) {
  if (!save_timers.has(c.id)) save_timers.set(c.id, window.setTimeout(() => save(c), kSaveEvery));
}
function keep(c: Conversation) {
  if (!conversations.includes(c)) conversations.push(c);
  save(c);
}

// --- conversations ---

function open(c: Conversation) {
  drafts.set(current.id, composer.text);
  current = c;
  const hash = conversations.includes(c) ? `#${c.id}` : "";
  if (location.hash !== hash) history.pushState(null, "", hash || location.pathname);
  draw(true);
  composer.text = drafts.get(c.id) ?? "";
  if (!narrow.matches) composer.focus();
}

function new_chat() {
  if (current.turns.length) {
    open(chats.new_conversation(defaults(), store.remembered("model") ?? ""));
    announce("New chat");
  }
  close_sidebar();
  composer.focus();
}

function rename(c: Conversation, title: string) {
  c.title = title;
  save(c);
  draw_sidebar();
  if (c === current) document.title = `${title} · mlx_lm`;
}

function remove(c: Conversation) {
  answers.get(c.id)?.abort.abort();
  conversations = conversations.filter((other) => other !== c);
  clearTimeout(save_timers.get(c.id));
  save_timers.delete(c.id);
  void store.erase(c.id);
  const was_current = c === current;
  if (was_current) open(chats.new_conversation(defaults(), c.model)); else draw_sidebar();
  toast(`Deleted “${c.title}”`, { label: "Undo", click: () => {
    keep(c);
    if (was_current && !current.turns.length) open(c); else draw_sidebar();
  } });
}

function export_chats(list: Conversation[], name: string) {
  if (!list.length) return toast("There is nothing to export");
  save_file(`${name.replace(/[^\p{L}\p{N} ._-]+/gu, "").trim().slice(0, 60) || "chat"}.json`, chats.exported(list));
}

async function import_file(file: File) {
  try {
    const list = chats.imported(await file.text());
    for (const c of list) keep(c);
    toast(`Imported ${list.length} ${list.length === 1 ? "conversation" : "conversations"}`);
    if (list.length) open(list[0]); else draw_sidebar();
  } catch (error) {
    toast(`${file.name}: ${(error as Error).message}`);
  }
}

// --- turns ---

// The first call of the last answer that has no result yet.
function open_call() {
  if (!uses_tools(current)) return undefined;
  const turns = chats.path(current);
  const at = turns.map((turn) => turn.role).lastIndexOf("assistant");
  if (at < 0 || turns.slice(at + 1).some((turn) => turn.role === "user")) return undefined;
  return turns[at].tool_calls?.[turns.length - 1 - at];
}

function send(text: string) {
  const c = current;
  const first = c.turns.length === 0;
  const call = open_call();
  const turn = chats.append(c, chats.path(c).at(-1)?.id ?? null, call ? "tool" : "user", text);
  if (call) turn.tool_call_id = call.id;
  if (first) {
    c.title = chats.title_of(text);
    c.model ||= picker.value === kDefaultModel ? "" : picker.value;
    conversations.push(c);
    history.replaceState(null, "", `#${c.id}`);
  }
  if (open_call()) {
    keep(c);
    draw(true);
  } else {
    void answer(c, turn);
  }
}

async function answer(c: Conversation, parent: Turn) {
  answers.get(c.id)?.abort.abort();
  const turn = chats.append(c, parent.id, "assistant", "");
  const model = c.model || (models.length === 1 ? models[0] : kDefaultModel);
  if (model !== kDefaultModel) turn.model = model;
  const mine: Answer = { conversation: c, turn, abort: new AbortController(), live: { pieces: 0, started: performance.now() } };
  answers.set(c.id, mine);
  keep(c);
  if (c === current) draw(true); else draw_sidebar();
  // The clocks in it go on while nothing arrives.
  const clock = window.setInterval(() => { if (c === current) thread.touch(turn); }, 500);
  await run_answer(mine, model, () => {
    save_soon(c);
    if (c === current) thread.touch(turn);
  });
  clearInterval(clock);
  if (answers.get(c.id) === mine) answers.delete(c.id);
  if (!conversations.includes(c)) return;
  save(c);
  if (c === current) {
    thread.touch(turn);
    draw_composer();
    announce(turn.error ? `Failed: ${turn.error.message}` : turn.finish === "stopped" ? "Stopped" : "Answer complete");
  }
  draw_sidebar();
  if (turn.error?.status === 401) void load_models();
}

function stop() { answers.get(current.id)?.abort.abort(); }

function edit(turn: Turn, text: string) {
  const c = current;
  const next = chats.append(c, turn.parent, turn.role, text);
  if (turn.role === "user") return void answer(c, next);
  next.finish = "edited";
  if (turn.model) next.model = turn.model;
  keep(c);
  draw(false);
}

function regenerate(turn: Turn) {
  const parent = current.turns.find((other) => other.id === turn.parent);
  if (parent) void answer(current, parent);
}

// What failed before a word came is replaced; anything else stays as a version.
function retry(turn: Turn) {
  const parent = current.turns.find((other) => other.id === turn.parent);
  if (!parent) return;
  if (!turn.content && !turn.reasoning && !turn.tool_calls?.length) chats.remove_turn(current, turn);
  notice.replaceChildren();
  void answer(current, parent);
}

function branch(turn: Turn) {
  const copy = chats.branch(current, turn);
  keep(copy);
  open(copy);
  toast("Continued in a new chat");
}

function show_version(turn: Turn) {
  chats.choose(current, turn);
  if (conversations.includes(current)) save(current);
  draw(false);
  document.querySelector<HTMLElement>(`[data-id="${CSS.escape(turn.id)}"] .versions button:not(:disabled)`)?.focus({ preventScroll: true });
}

// --- the server ---

async function load_models() {
  try {
    models = await list_models();
    notice.replaceChildren();
  } catch (error) {
    models = [];
    const key = error instanceof ApiError && error.status === 401;
    // An answer that failed has its own field for the key.
    if (key && document.querySelector(".thread .key-form")) return notice.replaceChildren();
    notice.replaceChildren(el("div", { class: "error", role: "alert" },
      el("p", {}, key ? "This server asks for an API key." : (error as Error).message),
      key ? key_form(() => void load_models())
        : el("button", { type: "button", class: "button", on: { click: () => void load_models() } }, icon("retry"), "Try again")));
  }
  draw_picker();
}

// --- keys, other tabs, start ---

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    document.querySelector("dialog")?.close();
    new_chat();
  } else if (event.key === "Escape" && !event.isComposing && !event.defaultPrevented && !document.querySelector("dialog[open]")) {
    if (document.body.classList.contains("sidebar-open")) close_sidebar(); else stop();
  }
});

window.addEventListener("popstate", () => open_by_hash());
function open_by_hash() {
  const c = conversations.find((c) => c.id === location.hash.slice(1));
  if (c && c !== current) open(c);
  if (!c && current.turns.length) open(chats.new_conversation(defaults(), store.remembered("model") ?? ""));
}

// What a closing page leaves of an answer.
window.addEventListener("pagehide", () => { for (const { conversation } of answers.values()) save(conversation); });

function received(c: Conversation): Conversation {
  c.settings = valid_settings(c.settings) ?? default_settings();
  for (const turn of c.turns) if (turn.role === "assistant" && !turn.finish && !turn.error) turn.finish = "interrupted";
  return c;
}

store.on_change_elsewhere(async (id) => {
  if (answers.has(id)) return;
  const c = await store.load_one(id);
  const at = conversations.findIndex((other) => other.id === id);
  if (c) received(c);
  if (c && at >= 0) conversations[at] = c; else if (c) conversations.push(c); else if (at >= 0) conversations.splice(at, 1);
  if (id === current.id && c) { current = c; draw(false); } else draw_sidebar();
});

async function start() {
  store.set_on_trouble((message) => toast(message));
  if (store.remembered("sidebar") === "hidden") document.body.classList.add("no-sidebar");
  draw_menu_button();
  narrow.addEventListener("change", draw_menu_button);
  current.model = store.remembered("model") ?? "";
  draw_empty();
  draw(true);
  composer.focus();
  void load_models();
  conversations = [...(await store.load_all()).map(received), ...conversations];
  open_by_hash();
  draw_sidebar();
}
void start();
