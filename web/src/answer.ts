// One answer as it comes in: from the events of the stream into its turn.
import { ApiError, type CallPiece, stream_chat } from "./api";
import { type Conversation, path_to, type Turn } from "./conversation";
import { request_fields } from "./settings";
import type { Live } from "./turn_view";

export interface Answer {
  conversation: Conversation;
  turn: Turn;
  live: Live;
  abort: AbortController;
}

export const uses_tools = (c: Conversation) => Array.isArray(request_fields(c.settings).tools);

// The messages that an answer below `parent` answers. Reasoning stays out: models are trained without their earlier one.
export function messages(c: Conversation, parent: string | null): object[] {
  const result: object[] = [];
  if (c.settings.system.trim()) result.push({ role: "system", content: c.settings.system });
  const tools = uses_tools(c);
  for (const turn of path_to(c, parent)) {
    const calls = tools ? turn.tool_calls : undefined;
    if (turn.role === "tool") {
      result.push({ role: "tool", tool_call_id: turn.tool_call_id, content: turn.content });
    } else if (turn.role === "user") {
      result.push({ role: "user", content: turn.content });
    } else if (calls?.length) {
      result.push({ role: "assistant", content: turn.content, tool_calls: calls.map((call) => (
        { id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } })) });
    } else if (turn.content) {
      result.push({ role: "assistant", content: turn.content });
    }
  }
  return result;
}

function add_calls(turn: Turn, pieces: CallPiece[]) {
  const calls = (turn.tool_calls ??= []);
  for (const piece of pieces) {
    const at = Number.isInteger(piece.index) && piece.index! >= 0 ? Math.min(piece.index!, calls.length) : calls.length;
    const call = (calls[at] ??= { id: "", name: "", arguments: "" });
    if (typeof piece.id === "string") call.id ||= piece.id;
    if (typeof piece.function?.name === "string") call.name += piece.function.name;
    if (typeof piece.function?.arguments === "string") call.arguments += piece.function.arguments;
  }
}

// Fills the turn until the answer ends in whatever way; never throws. changed: after each event.
export async function run_answer(answer: Answer, model: string, changed: () => void) {
  const { conversation, turn, live, abort } = answer;
  let last = 0;
  const stop_thinking = (now: number) => {
    if (live.thinking_since === undefined) return;
    turn.reasoning_ms = now - live.thinking_since;
    live.thinking_since = undefined;
  };
  try {
    const request = { model, messages: messages(conversation, turn.parent), ...request_fields(conversation.settings) };
    for await (const event of stream_chat(request, abort.signal)) {
      const now = performance.now();
      if (event.kind === "progress") {
        live.progress = event;
      } else if (event.kind === "delta") {
        live.first ??= now;
        last = now;
        live.pieces++;
        if (event.reasoning) {
          live.thinking_since ??= now;
          turn.reasoning = (turn.reasoning ?? "") + event.reasoning;
        }
        if (event.content || event.tool_calls.length) stop_thinking(now);
        turn.content += event.content;
        if (event.tool_calls.length) add_calls(turn, event.tool_calls);
      } else if (event.kind === "finish") {
        turn.finish = event.reason;
      } else {
        turn.stats = { prompt: event.usage.prompt_tokens, completion: event.usage.completion_tokens, cached: event.usage.prompt_tokens_details?.cached_tokens };
      }
      changed();
    }
    turn.finish ??= "stop";
  } catch (error) {
    if (abort.signal.aborted) {
      turn.finish = "stopped";
    } else {
      turn.error = { message: error instanceof Error ? error.message : String(error) };
      if (error instanceof ApiError && error.status !== undefined) turn.error.status = error.status;
      turn.finish = "error";
    }
  }
  stop_thinking(performance.now());
  if (live.first !== undefined) {
    turn.stats = { ...turn.stats, first_ms: live.first - live.started };
    if (last > live.first) turn.stats.decode_ms = last - live.first;
  }
}
