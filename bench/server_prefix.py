"""Time to the first token when a prompt's beginning is held: `python bench/server_prefix.py --model FILE`. The same
prompt of about 1,500 tokens with other last words, then the same after a restart from --prompt-cache-dir."""

import argparse
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent / "peers"))
from server import Server, free_port, stream  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--program", default="build/release/bin/mlx_lm")
    parser.add_argument("--words", type=int, default=560)
    a = parser.parse_args()
    text = "Read these numbers: " + " ".join(str(i * 37 % 1000) for i in range(a.words))
    first = lambda server, end: 1e3 * stream(server, text + end, 4)[0]
    with tempfile.TemporaryDirectory() as folder:
        def start():
            port = free_port()
            return Server("mlx_lm", [a.program, "server", "--model", a.model, "--port", str(port), "--log-format", "none",
                                     "--prompt-cache-dir", folder], port)
        server = start()
        stream(server, "Hello", 4)
        cold, warm = first(server, " First?"), first(server, " Second?")
        server.stop()
        server = start()
        stream(server, "Hello", 4)
        again = first(server, " Third?")
        usage = server.request("POST", "/v1/chat/completions", {
            "messages": [{"role": "user", "content": text + " Fourth?"}], "max_tokens": 1}).read().decode()
        server.stop()
    print(f"first token: {cold:.0f} ms; prefix held: {warm:.0f} ms ({cold / warm:.0f} x); after a restart: {again:.0f} ms "
          f"({cold / again:.0f} x)\n{usage[usage.index('usage'):]}")


if __name__ == "__main__":
    main()
