"""Clients as they should not be: `python abuse.py PROGRAM [MODEL]` starts
`mlx_lm server` and sends it proper requests, broken ones, and such whose clients go in the middle. Fails when an answer
is wrong or a status is 5xx, when the server ends or still works on something at the end, or when its memory grew."""

import argparse
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

DEFAULT_MODEL = (pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") /
                 "mlx-lm.cpp/models/SmolLM2-135M-Instruct.Q4_1.gguf")
HEAD = "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
    "a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}}}


class Server:
    def __init__(self, program, model):
        self.process = subprocess.Popen(
            [program, "server", "--model", model, "--port", "0", "--log-format", "none", "--memory", "0.4",
             "--prompt-cache-bytes", "30000000", "--queue", "300"], stderr=subprocess.PIPE, text=True)
        self.port = int(self.process.stderr.readline().rsplit(":", 1)[1])
        threading.Thread(target=lambda: [sys.stderr.write(line) for line in self.process.stderr], daemon=True).start()

    def open(self, method, path, body):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        s.sendall(HEAD.format(method, path, len(body)).encode() + body)
        return s

    def send(self, method, path, body=b""):
        """(status, body)"""
        with self.open(method, path, body) as s:
            data = b""
            while chunk := s.recv(65536):
                data += chunk
        head, _, rest = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), rest

    def post(self, path, fields):
        return self.send("POST", path, json.dumps(fields).encode())

    def figure(self, name):
        for line in self.send("GET", "/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


def chat(i, **more):
    return {"messages": [{"role": "user", "content": f"Say something about the number {i % 40}."}], "max_tokens": 12, **more}


def wrong_value(rng):
    return rng.choice([None, True, -1, 0, 2.5, 1e300, "x", "", [], {}, [[]], {"a": {}}, ["\0"], 2**63, -2**70,
                       "\ud83d", "a" * 5000, [{"role": "user"}] * 50])


def wrong_body(rng):
    fields = chat(rng.randrange(40))
    kind = rng.randrange(9)
    if kind == 0:
        return b"[" * rng.choice([10, 10_000, 100_000])
    if kind == 1:
        return rng.randbytes(rng.randrange(2000))
    if kind == 2:
        return json.dumps(fields).encode().replace(b"number", b"\xff\xfe\xc0")
    if kind == 3:
        return json.dumps(fields).encode()[:rng.randrange(60)]
    if kind == 4:
        fields["response_format"] = {"type": "json_schema", "json_schema": {"schema": rng.choice([
            {"$ref": "#"}, {"type": "x"}, {"allOf": [{"type": "string"}, {"type": "integer"}]},
            {"type": "string", "pattern": "(" * 500}, {"enum": []}, {"type": "array", "minItems": 10**9},
            {"properties": {str(i): {"$ref": "#/nowhere"} for i in range(50)}}])}}
    elif kind == 5:
        fields["regex"] = rng.choice(["(", "(a{1000}){1000}", "[", "\\", "(?<=a)b", "a" * 100_000])
    elif kind == 6:
        fields["grammar"] = rng.choice(["start: start", "x", "start: /(/", "start: a\na: b\nb: a"])
    else:
        names = ["messages", "model", "temperature", "top_p", "top_k", "min_p", "max_tokens", "n", "stop", "seed", "tools",
                 "tool_choice", "logit_bias", "logprobs", "top_logprobs", "stream", "stream_options", "response_format",
                 "chat_template_kwargs", "repetition_penalty", "xtc_probability", "adapters", "num_draft_tokens", "input",
                 "system", "thinking", "max_completion_tokens", "parallel_tool_calls", "prompt", "echo", "text"]
        for _ in range(rng.randrange(1, 4)):
            fields[rng.choice(names)] = wrong_value(rng)
        if isinstance(fields.get("max_tokens"), int) and fields["max_tokens"] not in range(1, 13):
            del fields["max_tokens"]  # for no long answers
        fields.pop("n", None) if not isinstance(fields.get("n"), int) or fields.get("n", 0) > 16 else None
        fields.setdefault("max_tokens", 3)
    return json.dumps(fields).encode()


def abuse(server, rng, alone, i):
    kind = rng.randrange(10)
    if kind < 4:  # a proper one
        number = rng.randrange(40)
        status, body = server.post("/v1/chat/completions", chat(number))
        if status == 429:
            return
        assert status == 200, (status, body)
        text = json.loads(body)["choices"][0]["message"]["content"]
        assert text == alone[number], (number, text, alone[number])
    elif kind < 6:  # a client that goes
        path, fields = rng.choice([
            ("/v1/chat/completions", chat(i, stream=True, max_tokens=200)), ("/v1/completions", {"prompt": "One", "max_tokens": 200}),
            ("/v1/messages", chat(i, stream=True, max_tokens=200)), ("/v1/chat/completions", chat(i, n=4, max_tokens=100)),
            ("/v1/responses", {"input": "Hello", "stream": True, "max_output_tokens": 200}),
            ("/v1/chat/completions", chat(i, tools=[TOOL], tool_choice="required", stream=True)),
            ("/v1/embeddings", {"input": ["a text"] * 20})])
        with server.open("POST", path, json.dumps(fields).encode()) as s:
            for _ in range(rng.randrange(4)):
                if not s.recv(rng.choice([1, 100, 2000])):
                    break
    elif kind == 6:  # one that goes before the end of its request
        body = json.dumps(chat(i)).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as s:
            data = HEAD.format("POST", "/v1/chat/completions", len(body)).encode() + body
            s.sendall(data[:rng.randrange(len(data))])
    else:
        path = rng.choice(["/v1/chat/completions"] * 3 + ["/v1/completions", "/v1/messages", "/v1/responses",
                                                          "/v1/embeddings", "/v1/messages/count_tokens"])
        status, body = server.send("POST", path, wrong_body(rng))
        assert status < 500, (status, body)
        if status >= 400 and status != 429:
            assert json.loads(body)["error"]["message"], body


def run(server, requests, seed, clients):
    alone = [json.loads(server.post("/v1/chat/completions", chat(i))[1])["choices"][0]["message"]["content"]
             for i in range(40)]
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda i: abuse(server, random.Random(seed * 1_000_000 + i), alone, i), range(requests)))
    for _ in range(300):  # until what was left behind is cancelled
        if server.figure("mlx_lm_texts_running") + server.figure("mlx_lm_texts_waiting") == 0:
            time.sleep(3)  # the server gives memory back when it has nothing to do
            return server.memory()
        time.sleep(0.1)
    raise AssertionError("texts are still under way")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model", nargs="?", default=str(DEFAULT_MODEL))
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth", type=float, default=0.02, help="of memory that is allowed")
    a = parser.parse_args()
    server = Server(a.program, a.model)
    try:
        before = run(server, a.requests, a.seed, a.clients)  # warm-up
        after = run(server, a.requests, a.seed + 1, a.clients)
        print(f"{a.requests} requests: {before:.1f} MB after a warm-up of as many, {after:.1f} MB after them; "
              f"failed texts: {server.figure('mlx_lm_texts_failed_total'):.0f}")
        assert after <= before * (1 + a.growth), (before, after)
        assert server.send("GET", "/health")[0] == 200
        assert server.process.poll() is None
        server.process.terminate()
        assert server.process.wait(60) == 0, server.process.returncode
    finally:
        server.process.kill()


if __name__ == "__main__":
    main()
