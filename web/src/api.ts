// The server's side of the page: /v1/models and a streamed /v1/chat/completions.
import { remembered } from "./store";

export class ApiError extends Error {
  constructor(message: string, readonly status?: number) { super(message); }
}

export interface CallPiece {
  index?: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}

export interface Usage {
  prompt_tokens?: number;
  completion_tokens?: number;
  prompt_tokens_details?: { cached_tokens?: number };
}

export type ChatEvent =
  | { kind: "progress"; done: number; total: number }  // tokens of the prompt
  | { kind: "delta"; content: string; reasoning: string; tool_calls: CallPiece[] }
  | { kind: "finish"; reason: string }
  | { kind: "usage"; usage: Usage };

async function call(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const key = remembered("key");
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let answer: Response;
  try {
    answer = await fetch(path, { ...init, headers, credentials: "same-origin" });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
  if (answer.ok) return answer;
  const text = await answer.text().catch(() => "");
  let message = "";
  try {
    const error = JSON.parse(text).error;
    message = typeof error === "string" ? error : String(error?.message ?? "");
  } catch {
    message = text.slice(0, 300);
  }
  throw new ApiError(message || `The server answered ${answer.status} ${answer.statusText}`.trim(), answer.status);
}

export async function list_models(): Promise<string[]> {
  const answer = await (await call("v1/models")).json().catch(() => null);
  const list: unknown[] = Array.isArray(answer?.data) ? answer.data : [];
  return list.map((model) => (model as { id?: unknown } | null)?.id).filter((id): id is string => typeof id === "string");
}

// Server-sent events from bytes that may be cut anywhere, also inside a letter.
export class SseParser {
  #decoder = new TextDecoder();
  #rest = "";
  #data: string[] = [];

  // What the bytes complete: events' data, and comments.
  push(bytes?: Uint8Array): { data?: string; comment?: string }[] {
    const items: { data?: string; comment?: string }[] = [];
    this.#rest += bytes ? this.#decoder.decode(bytes, { stream: true }) : this.#decoder.decode();
    let at = 0;
    for (let end; (end = this.#rest.indexOf("\n", at)) >= 0; at = end + 1) {
      const line = this.#rest.slice(at, this.#rest[end - 1] === "\r" && end > at ? end - 1 : end);
      if (line === "") {
        if (this.#data.length) items.push({ data: this.#data.join("\n") });
        this.#data = [];
      } else if (line.startsWith(":")) {
        items.push({ comment: line.slice(1).trim() });
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
    this.#rest = this.#rest.slice(at);
    return items;
  }
}

const text = (value: unknown) => (typeof value === "string" ? value : "");

function* chat_events(data: string): Generator<ChatEvent> {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new ApiError(`The server sent what is no JSON: ${data.slice(0, 100)}`);
  }
  if (chunk?.error) throw new ApiError(text(chunk.error.message) || text(chunk.error) || "The server failed in the middle of the answer.");
  const choice = chunk?.choices?.[0];
  const delta = choice?.delta;
  if (delta) {
    const piece = {
      content: text(delta.content), reasoning: text(delta.reasoning_content) || text(delta.reasoning),
      tool_calls: Array.isArray(delta.tool_calls) ? (delta.tool_calls as CallPiece[]) : [],
    };
    if (piece.content || piece.reasoning || piece.tool_calls.length) yield { kind: "delta", ...piece };
  }
  if (choice?.finish_reason) yield { kind: "finish", reason: text(choice.finish_reason) };
  if (chunk?.usage) yield { kind: "usage", usage: chunk.usage };
}

// Throws ApiError, or AbortError when the signal says so.
export async function* stream_chat(request: object, signal: AbortSignal): AsyncGenerator<ChatEvent> {
  const answer = await call("v1/chat/completions", {
    method: "POST", signal, headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } }),
  });
  if (!answer.body || !answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
    throw new ApiError(`Expected a stream of events, found ${answer.headers.get("Content-Type") ?? "nothing"}.`);
  }
  const parser = new SseParser();
  const reader = answer.body.getReader();
  let finished = false;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: Error) => {
        if (error.name === "AbortError") throw error;
        throw new ApiError("The connection broke before the answer was complete.");
      });
      for (const item of parser.push(value)) {
        const progress = item.comment === undefined ? null : /^keepalive (\d+)\/(\d+)$/.exec(item.comment);
        if (progress) yield { kind: "progress", done: Number(progress[1]), total: Number(progress[2]) };
        if (item.data === undefined) continue;
        if (item.data === "[DONE]") return;
        for (const event of chat_events(item.data)) {
          finished ||= event.kind === "finish";
          yield event;
        }
      }
      if (done) break;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
  if (!finished) throw new ApiError("The connection ended before the answer was complete.");
}
