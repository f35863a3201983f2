#!/usr/bin/env python3
"""Whether mlx-lm goes on from prompt-cache files of ours as from caches of its own.

Needs: pip install mlx-lm mlx-cpu

  prompt_cache.py MLX_LM MODEL_FOLDER [--model MODEL] [--tokens N]
      MLX_LM: this project's program. MODEL_FOLDER: the model for mlx-lm (tools/gguf_to_hf.py makes one of a GGUF).
      --model: the same for the program; default: its own. Saves a prompt in several ways, loads each with mlx-lm,
      compares kind and state with those of its own caches after the same prompt, and N greedy tokens from both.
"""
import argparse
import pathlib
import subprocess
import tempfile

import mlx.core as mx
import mlx_lm
from mlx_lm.models.cache import KVCache, QuantizedKVCache, RotatingKVCache, load_prompt_cache

PROMPT = "The quick brown fox jumps over the lazy dog, and then it does so once more"
# The program's flags, and mlx-lm's own cache: max_kv_size, (bits, group_size)
WAYS = [([], None, None), (["--max-kv-size", "64"], 64, None), (["--max-kv-size", "20"], 20, None),
        (["--kv-bits", "8"], None, (8, 64)), (["--kv-bits", "4", "--kv-group-size", "32"], None, (4, 32))]


def greedy(model, cache, n):
    logits = model(mx.array([[28]]), cache=cache)
    tokens = []
    for _ in range(n):
        token = mx.argmax(logits[:, -1], -1, keepdims=True)
        tokens.append(token.item())
        logits = model(token, cache=cache)
    return tokens


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("program"), ap.add_argument("folder"), ap.add_argument("--model")
    ap.add_argument("--tokens", type=int, default=6)
    args = ap.parse_args()
    model, tokenizer = mlx_lm.load(args.folder)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": PROMPT}], add_generation_prompt=False,
                                           continue_final_message=True)
    file = str(pathlib.Path(tempfile.mkdtemp()) / "cache.safetensors")
    for flags, max_kv_size, quantized in WAYS:
        command = [args.program, "cache_prompt", "--prompt", PROMPT, "--prompt-cache-file", file,
                   "--quantized-kv-start", "0"] + flags + (["--model", args.model] if args.model else [])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found, metadata = load_prompt_cache(file, return_metadata=True)
        assert set(metadata) == {"model", "tokenizer_config"}, metadata
        own = [RotatingKVCache(max_kv_size, keep=4) if max_kv_size else KVCache() for _ in model.layers]
        # As generate_step cuts it: all but the last token first.
        for part in (prompt[:-1], prompt[-1:]):
            model(mx.array([part]), cache=own)
            if quantized:
                own = [c if isinstance(c, QuantizedKVCache) else c.to_quantized(bits=quantized[0], group_size=quantized[1])
                       for c in own]
        worst = 0
        for a, b in zip(found, own):
            assert type(a) is type(b) and a.offset == b.offset == len(prompt), (a, b)
            assert [x for x in a.state if isinstance(x, int)] == [x for x in b.state if isinstance(x, int)], a.state[2:]
            if not quantized:
                x, y = (mx.concatenate(c.keys_and_values(), -1).astype(mx.float32) for c in (a, b))
                worst = max(worst, mx.abs(x - y).max().item())
        ours, theirs = greedy(model, found, args.tokens), greedy(model, own, args.tokens)
        print(" ".join(flags) or "plain", type(found[0]).__name__, f"largest difference {worst:.3g}", ours,
              "the same" if ours == theirs else f"mlx-lm: {theirs}", flush=True)
        assert ours == theirs or quantized and quantized[0] == 4, "other tokens"


if __name__ == "__main__":
    main()
