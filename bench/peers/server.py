"""Servers side by side: `mlx_lm server` and llama.cpp's (llama-cpp-python[server]), on the same file, in alternate rounds.

    python bench/peers/server.py --model FILE.gguf --program build/release/bin/mlx_lm

Each client streams chats one after another, all prompts different from each other and from round to round, temperature
0. Printed, as medians over the rounds: tokens/s of all clients together, time to the first token (p50, p99), time
between tokens (p99).
"""

import argparse
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time

WORDS = """river stone window garden engine letter market silver bridge forest candle harbor signal winter
orange village mirror thunder pocket ladder canvas feather island compass lantern meadow anchor basket copper
falcon""".split()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.request("GET", "/v1/models").status == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"{name}: did not start: {' '.join(command)}")

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        return connection.getresponse()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def prompt(rng, words):
    return "Tell a story about these things: " + " ".join(rng.choice(WORDS) for _ in range(words)) + "."


def stream(server, message, max_tokens):
    """Times at which pieces of text came, counted from the request; tokens of the answer."""
    start = time.perf_counter()
    response = server.request("POST", "/v1/chat/completions", {
        "messages": [{"role": "user", "content": message}], "max_tokens": max_tokens, "temperature": 0, "stream": True})
    times = []
    for line in response:
        if not line.startswith(b"data: {"):
            if line.startswith(b"data: [DONE]"):
                break
            continue
        delta = json.loads(line[6:])["choices"][0]["delta"]
        if delta.get("content"):
            times.append(time.perf_counter() - start)
    if not times:
        raise SystemExit(f"{server.name}: no answer, status {response.status}")
    return times


def load(server, clients, requests, words, max_tokens, seed):
    results, lock = [], threading.Lock()

    def client(i):
        rng = random.Random(seed * 1000 + i)
        for _ in range(requests):
            times = stream(server, prompt(rng, words), max_tokens)
            with lock:
                results.append(times)

    start = time.perf_counter()
    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.perf_counter() - start
    first = sorted(t[0] for t in results)
    gaps = sorted(b - a for t in results for a, b in zip(t, t[1:]))
    rank = lambda values, q: values[min(len(values) - 1, int(q * len(values)))]
    return {"tokens/s": sum(map(len, results)) / seconds, "TTFT p50": rank(first, 0.5) * 1e3,
            "TTFT p99": rank(first, 0.99) * 1e3, "inter-token p50": rank(gaps, 0.5) * 1e3,
            "inter-token p99": rank(gaps, 0.99) * 1e3}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a .gguf file")
    parser.add_argument("--program", default="build/release/bin/mlx_lm")
    parser.add_argument("--python", default=sys.executable, help="one that has llama-cpp-python[server]")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=3, help="of each client in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=100, help="of a prompt; about as many tokens")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    ports = free_port(), free_port()
    servers = [
        Server("mlx_lm", [a.program, "server", "--model", a.model, "--port", str(ports[0]), "--log-format", "none",
                          "--threads", str(a.threads)], ports[0]),
        Server("llama.cpp", [a.python, "-m", "llama_cpp.server", "--model", a.model, "--port", str(ports[1]),
                             "--n_ctx", "4096", "--interrupt_requests", "false", "--n_threads", str(a.threads), "--n_threads_batch", str(a.threads)],
               ports[1])]
    try:
        for server in servers:
            load(server, 1, 1, a.words, a.max_tokens, 0)
        print(f"{'clients':>7} {'server':>10} {'tokens/s':>9} {'TTFT p50':>9} {'p99 ms':>8} {'token p50':>9} {'p99 ms':>8}")
        for clients in a.clients:
            rounds = {server.name: [] for server in servers}
            for i in range(a.rounds):
                for server in servers if i % 2 == 0 else servers[::-1]:
                    rounds[server.name].append(load(server, clients, a.requests, a.words, a.max_tokens, 1 + i))
            for name, results in rounds.items():
                m = {key: statistics.median(r[key] for r in results) for key in results[0]}
                print(f"{clients:7} {name:>10} {m['tokens/s']:9.1f} {m['TTFT p50']:9.0f} {m['TTFT p99']:8.0f} "
                      f"{m['inter-token p50']:9.1f} {m['inter-token p99']:8.1f}", flush=True)
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
