// A conversation is a tree: editing or regenerating a turn adds a version beside it, and one path through them is shown.
import { default_settings, type Settings, valid_settings } from "./settings";

export type Role = "user" | "assistant" | "tool";

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;  // JSON as the model wrote it
}

export interface Stats {
  prompt?: number;  // tokens
  cached?: number;  // of these, those that the server did not have to read again
  completion?: number;
  first_ms?: number;   // from sending to the first piece
  decode_ms?: number;  // from the first piece to the last
}

export interface Failure {
  message: string;
  status?: number;
}

export interface Turn {
  id: string;
  parent: string | null;  // comes earlier in Conversation.turns
  role: Role;
  content: string;
  reasoning?: string;
  reasoning_ms?: number;
  tool_calls?: ToolCall[];
  tool_call_id?: string;  // role "tool": the call that this answers
  created: number;
  model?: string;
  stats?: Stats;
  finish?: string;  // "stop", "length", "tool_calls"; "stopped" by the reader; "interrupted" with the page
  error?: Failure;
}

export interface Conversation {
  id: string;
  title: string;
  created: number;
  updated: number;
  model: string;  // empty: the server's own
  settings: Settings;
  turns: Turn[];
  chosen: Record<string, string>;  // parent's id, or "" for the first turn, to the version that is shown
}

export const new_id = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

export function new_conversation(settings: Settings, model: string): Conversation {
  const now = Date.now();
  return { id: new_id(), title: "New chat", created: now, updated: now, model, settings: structuredClone(settings), turns: [], chosen: {} };
}

export const versions = (c: Conversation, parent: string | null) => c.turns.filter((turn) => turn.parent === parent);

export function path(c: Conversation): Turn[] {
  const children = new Map<string, Turn[]>();
  for (const turn of c.turns) {
    const key = turn.parent ?? "";
    const list = children.get(key);
    if (list) list.push(turn); else children.set(key, [turn]);
  }
  const result: Turn[] = [];
  for (let key = ""; ; ) {
    const list = children.get(key);
    if (!list) return result;
    const turn = list.find((turn) => turn.id === c.chosen[key]) ?? list[list.length - 1];
    result.push(turn);
    key = turn.id;
  }
}

// The turns down to this one, which need not be shown.
export function path_to(c: Conversation, id: string | null): Turn[] {
  const by_id = new Map(c.turns.map((turn) => [turn.id, turn]));
  const result: Turn[] = [];
  for (let turn = id === null ? undefined : by_id.get(id); turn; turn = turn.parent === null ? undefined : by_id.get(turn.parent)) {
    result.push(turn);
  }
  return result.reverse();
}

export function choose(c: Conversation, turn: Turn) { c.chosen[turn.parent ?? ""] = turn.id; }

export function append(c: Conversation, parent: string | null, role: Role, content: string): Turn {
  const turn: Turn = { id: new_id(), parent, role, content, created: Date.now() };
  c.turns.push(turn);
  choose(c, turn);
  c.updated = turn.created;
  return turn;
}

// With all that follows it.
export function remove_turn(c: Conversation, turn: Turn) {
  const gone = new Set([turn.id]);
  for (const other of c.turns) if (other.parent !== null && gone.has(other.parent)) gone.add(other.id);
  c.turns = c.turns.filter((other) => !gone.has(other.id));
  for (const key of Object.keys(c.chosen)) if (gone.has(key) || gone.has(c.chosen[key])) delete c.chosen[key];
}

// A conversation of its own with the turns down to this one.
export function branch(c: Conversation, turn: Turn): Conversation {
  const copy = new_conversation(c.settings, c.model);
  copy.title = c.title;
  let parent: string | null = null;
  for (const old of path_to(c, turn.id)) {
    const next: Turn = { ...structuredClone(old), id: new_id(), parent };
    copy.turns.push(next);
    parent = next.id;
  }
  return copy;
}

export const title_of = (text: string) => {
  const line = text.trim().split("\n", 1)[0].replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line || "New chat";
};

// --- files: any file may be given, so each value is looked at before it is taken ---

const kFormat = "mlx_lm.chat";

export const exported = (list: Conversation[]) => JSON.stringify({ format: kFormat, version: 1, conversations: list }, null, 1);

type Bag = Record<string, unknown>;
const is_bag = (value: unknown): value is Bag => typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: unknown, fallback = "") => (typeof value === "string" ? value : fallback);
const number = (value: unknown) => (typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined);
const without_undefined = <T extends object>(value: T): T => {
  for (const key of Object.keys(value) as (keyof T)[]) if (value[key] === undefined) delete value[key];
  return value;
};

function valid_turn(value: unknown, ids: Map<string, string>, where: string): Turn {
  if (!is_bag(value)) throw new Error(`${where}: expected an object`);
  const role = value.role;
  if (role !== "user" && role !== "assistant" && role !== "tool") throw new Error(`${where}.role: expected user, assistant or tool`);
  if (typeof value.content !== "string") throw new Error(`${where}.content: expected a string`);
  const parent = value.parent === null ? null : ids.get(text(value.parent));
  if (parent === undefined) throw new Error(`${where}.parent: expected null or the id of an earlier turn`);
  const id = text(value.id);
  if (!id || ids.has(id)) throw new Error(`${where}.id: expected a text that no other turn has`);
  ids.set(id, new_id());
  const stats = is_bag(value.stats) ? value.stats : undefined;
  const error = is_bag(value.error) ? value.error : undefined;
  const calls = Array.isArray(value.tool_calls) ? value.tool_calls.filter(is_bag) : undefined;
  return without_undefined<Turn>({
    id: ids.get(id)!, parent, role, content: value.content,
    reasoning: typeof value.reasoning === "string" ? value.reasoning : undefined,
    reasoning_ms: number(value.reasoning_ms),
    tool_calls: calls?.map((call) => ({ id: text(call.id), name: text(call.name), arguments: text(call.arguments) })),
    tool_call_id: typeof value.tool_call_id === "string" ? value.tool_call_id : undefined,
    created: number(value.created) ?? Date.now(),
    model: typeof value.model === "string" ? value.model : undefined,
    stats: stats && without_undefined<Stats>({
      prompt: number(stats.prompt), cached: number(stats.cached), completion: number(stats.completion),
      first_ms: number(stats.first_ms), decode_ms: number(stats.decode_ms),
    }),
    finish: typeof value.finish === "string" ? value.finish : undefined,
    error: error && without_undefined<Failure>({ message: text(error.message, "unknown"), status: number(error.status) }),
  });
}

// Ids are drawn anew, so that nothing that is there already is overwritten.
export function imported(file: string): Conversation[] {
  let value: unknown;
  try {
    value = JSON.parse(file);
  } catch (error) {
    throw new Error(`not JSON: ${(error as Error).message}`);
  }
  if (!is_bag(value) || value.format !== kFormat || !Array.isArray(value.conversations)) {
    throw new Error(`expected an export of this page ("format": "${kFormat}")`);
  }
  return value.conversations.map((entry: unknown, i: number) => {
    const where = `conversations[${i}]`;
    if (!is_bag(entry) || !Array.isArray(entry.turns)) throw new Error(`${where}.turns: expected a list`);
    const ids = new Map<string, string>();
    const turns = entry.turns.map((turn: unknown, j: number) => valid_turn(turn, ids, `${where}.turns[${j}]`));
    const chosen: Record<string, string> = {};
    for (const [key, id] of Object.entries(is_bag(entry.chosen) ? entry.chosen : {})) {
      const parent = key === "" ? "" : ids.get(key);
      const version = ids.get(text(id));
      if (parent !== undefined && version !== undefined) chosen[parent] = version;
    }
    const now = Date.now();
    return {
      id: new_id(), title: text(entry.title).slice(0, 200) || "Imported chat", created: number(entry.created) ?? now,
      updated: number(entry.updated) ?? now, model: text(entry.model), turns, chosen,
      settings: valid_settings(entry.settings) ?? default_settings(),
    };
  });
}
