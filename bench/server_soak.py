"""`mlx_lm server` under load for a while: `python bench/server_soak.py --model FILE --minutes 10 --clients 32 --svg OUT`.

Each client streams chats of random length, one after another; a tenth of them goes in the middle. Prints tokens/s and
memory over time, and draws the memory."""

import argparse
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "peers"))
from server import Server, free_port, prompt  # noqa: E402


def svg(samples, path):
    """samples: (minutes, MB)"""
    width, height, left, bottom = 640, 240, 50, 30
    most_x, most_y = max(x for x, _ in samples), max(y for _, y in samples) * 1.2
    place = lambda x, y: (left + x / most_x * (width - left - 10), height - bottom - y / most_y * (height - bottom - 10))
    line = " ".join("%.1f,%.1f" % place(x, y) for x, y in samples)
    marks = "".join('<text x="%.0f" y="%d">%d</text>' % (place(x, 0)[0] - 4, height - 12, x) for x in range(int(most_x) + 1))
    step = 100 if most_y < 1200 else 500
    marks += "".join('<text x="4" y="%.0f">%d</text><path d="M%d %.1fH%d" stroke="#ddd"/>' %
                     (place(0, y)[1] + 4, y, left, place(0, y)[1], width - 10) for y in range(0, int(most_y), step))
    pathlib.Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>{marks}<polyline points="{line}" fill="none" stroke="#06c" '
        f'stroke-width="1.5"/><text x="{left + 6}" y="16">resident memory, MB, by minute</text></svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--program", default="build/release/bin/mlx_lm")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--svg")
    a = parser.parse_args()
    port = free_port()
    server = Server("mlx_lm", [a.program, "server", "--model", a.model, "--port", str(port), "--log-format", "none",
                               "--memory", "2", "--prompt-cache-bytes", "200000000"], port)
    end, lock, counts = time.time() + a.minutes * 60, threading.Lock(), {"answers": 0, "gone": 0, "bad": 0}

    def client(i):
        rng = random.Random(i)
        while time.time() < end:
            response = server.request("POST", "/v1/chat/completions", {
                "messages": [{"role": "user", "content": prompt(rng, rng.randrange(5, 200))}], "temperature": 1,
                "max_tokens": rng.randrange(5, 120), "stream": True})
            gone = rng.randrange(10) == 0
            text = response.read(2000) if gone else response.read()
            response.close()
            good = response.status == 200 and (gone or text.endswith(b"data: [DONE]\n\n"))
            with lock:
                counts["gone" if gone else "answers"] += 1
                counts["bad"] += not good

    threads = [threading.Thread(target=client, args=(i,)) for i in range(a.clients)]
    for t in threads:
        t.start()
    samples, start = [], time.time()
    memory = lambda: int(pathlib.Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
    while any(t.is_alive() for t in threads):
        samples.append(((time.time() - start) / 60, memory()))
        if len(samples) % 12 == 1:
            print(f"{samples[-1][0]:5.1f} min {samples[-1][1]:7.1f} MB  {counts}", flush=True)
        time.sleep(5)
    time.sleep(5)
    samples.append(((time.time() - start) / 60, memory()))
    figures = server.request("GET", "/metrics").read().decode().splitlines()
    tokens = next(float(l.split()[1]) for l in figures if l.startswith("mlx_lm_generation_tokens_total "))
    print(f"{samples[-1][0]:5.1f} min {samples[-1][1]:7.1f} MB  {counts}; {tokens / (a.minutes * 60):.0f} tokens/s")
    if a.svg:
        svg(samples, a.svg)
    server.stop()
    if counts["bad"]:
        raise SystemExit(f"{counts['bad']} answers were not what they should be")


if __name__ == "__main__":
    main()
