// A server with the page's files, under the headers that the program sends, and an API that answers as a test says.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const kHeaders = JSON.parse(readFileSync(new URL("../../web/headers.json", import.meta.url), "utf8"));
const kFiles = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/chat.js": ["chat.js", "text/javascript; charset=utf-8"],
  "/theme.js": ["theme.js", "text/javascript; charset=utf-8"],
  "/style.css": ["style.css", "text/css; charset=utf-8"],
  "/icon.svg": ["icon.svg", "image/svg+xml"],
  "/licenses.txt": ["licenses.txt", "text/plain; charset=utf-8"],
};

// What a test's answer writes with.
class Stream {
  #answer;
  #started = false;
  closed = false;  // by the client, before the end

  constructor(request, answer) {
    this.request = request;
    this.#answer = answer;
    this.gone = new Promise((resolve) => answer.on("close", () => {
      this.closed = !answer.writableFinished;
      resolve();
    }));
  }

  fail(status, message) {
    this.#answer.writeHead(status, { "Content-Type": "application/json" });
    this.#answer.end(JSON.stringify({ error: { message, type: "server_error", param: null, code: null } }));
  }
  raw(bytes) {
    if (!this.#started) this.#answer.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
    this.#started = true;
    return new Promise((resolve) => this.#answer.write(bytes, resolve));
  }
  chunk(fields) {
    return this.raw(`data: ${JSON.stringify({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: this.request.model, ...fields })}\n\n`);
  }
  delta(delta, finish_reason = null) { return this.chunk({ choices: [{ index: 0, delta, finish_reason }] }); }
  text(content) { return this.delta({ content }); }
  progress(done, total) { return this.raw(`: keepalive ${done}/${total}\n\n`); }
  async end(reason = "stop", usage = { prompt_tokens: 12, completion_tokens: 34, total_tokens: 46 }) {
    await this.delta({}, reason);
    await this.chunk({ choices: [], usage });
    await this.raw("data: [DONE]\n\n");
    this.#answer.end();
  }
  finish() { this.#answer.end(); }
  break() { this.#answer.socket.end(); }
}

export async function start_mock(folder) {
  const mock = {
    models: ["org/first-model", "org/second-model"],
    key: "",          // when set, the API asks for it
    requests: [],     // bodies of /v1/chat/completions
    seen: [],         // "METHOD path" of every request
    answer: async (stream) => { await stream.text("Fine."); await stream.end(); },
  };
  const server = createServer((request, answer) => {
    mock.seen.push(`${request.method} ${request.url}`);
    const file = kFiles[request.url];
    if (request.method === "GET" && file) {
      answer.writeHead(200, { ...kHeaders, "Content-Type": file[1] });
      return answer.end(readFileSync(join(folder, file[0])));
    }
    if (!request.url.startsWith("/v1/")) return answer.writeHead(404).end();
    if (mock.key && request.headers.authorization !== `Bearer ${mock.key}`) {
      answer.writeHead(401, { "Content-Type": "application/json" });
      return answer.end(JSON.stringify({ error: { message: "Wrong API key", type: "authentication_error", param: null, code: null } }));
    }
    if (request.url === "/v1/models") {
      answer.writeHead(200, { "Content-Type": "application/json" });
      return answer.end(JSON.stringify({ object: "list", data: mock.models.map((id) => ({ id, object: "model" })) }));
    }
    let body = "";
    request.setEncoding("utf8").on("data", (piece) => { body += piece; }).on("end", () => {
      const parsed = JSON.parse(body);
      mock.requests.push(parsed);
      const stream = new Stream(parsed, answer);
      mock.last = stream;
      Promise.resolve(mock.answer(stream)).catch((error) => { if (!stream.closed) throw error; });
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  mock.url = `http://127.0.0.1:${server.address().port}/`;
  mock.close = () => { server.closeAllConnections(); server.close(); };
  return mock;
}

// A promise that a test fulfils, for answers that come step by step.
export function gate() {
  let open;
  const promise = new Promise((resolve) => { open = resolve; });
  return { open, promise };
}
