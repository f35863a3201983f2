#!/usr/bin/env python3
"""Writes prompt_caches/: prompt-cache files of mlx-lm's, and how a model goes on from them.

Needs: pip install mlx-lm mlx-cpu

  dump_prompt_caches.py [OUT] [--kinds]      default: prompt_caches beside this script

--kinds: kinds.json and its files, of models with other kinds of caches, instead of the others.

The model is case llama_kv_bits of dump.py, in float32. expected.json: for each file "max_size" and "keep" of a rotating
cache (or null), "bits" and "group_size" of a quantized one (or 0), "offset", and "steps", one after another from the
saved cache: {"tokens": those of the step, "logits": the first 8 at its last token}. Files named old_* are laid out as
mlx-lm wrote them until 0.32.1.
"""
import json
import pathlib
import random
import sys

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import ChunkedKVCache, KVCache, QuantizedKVCache, RotatingKVCache, load_prompt_cache, save_prompt_cache

import dump

CASE = "llama_kv_bits"
METADATA = {"model": "a/model", "tokenizer_config": '{"trust_remote_code": false}'}
# name: (max_size, keep), (bits, group_size), the steps before it is saved, how many tokens are taken back then
FILES = {
    "growing": (None, None, [7, 1, 1], 0),
    "growing_trimmed": (None, None, [7, 1], 3),
    "rotating": ((12, 2), None, [5, 1], 0),
    "rotating_full": ((8, 2), None, [5] + [1] * 6, 0),
    "rotating_long": ((8, 0), None, [11], 0),
    "quantized_8": (None, (8, 64), [7, 1], 0),
    "quantized_4": (None, (4, 32), [7, 1, 1], 1),
    "old_growing": (None, None, [7, 1], 0),
    "old_rotating_full": ((8, 2), None, [5] + [1] * 6, 0),
    "old_quantized_8": (None, (8, 64), [7, 1], 0),
}

# name: case of dump.py, the steps before it is saved
KINDS = {"states_and_rows": ("lfm2_basic", [7, 1]), "states": ("mamba_basic", [7, 1]),
         "chunks": ("llama4_basic", [15, 1, 9, 1]), "lists": ("deepseek_v32", [7, 1])}


def go_on(model, tokens, caches):
    made = []
    for n in (1, 1, 3, 1):
        step = tokens(n)
        logits = model(mx.array([step]), cache=caches)[0, -1]
        made.append({"tokens": step, "logits": dump.numbers(logits[:8])})
    return made


def write(path, expected):
    lines = [f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in expected.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def dump_kinds(out):
    expected = {}
    for name, (case, steps) in KINDS.items():
        config = dump.config_of(case)
        model = dump.load(config, dump.make_weights(config)[1])
        rng = random.Random(name)
        tokens = lambda n: [rng.randrange(dump.vocab_size(config)) for _ in range(n)]
        caches = model.make_cache()
        for n in steps:
            model(mx.array([tokens(n)]), cache=caches)
        save_prompt_cache(str(out / f"{name}.safetensors"), caches, METADATA)
        caches = load_prompt_cache(str(out / f"{name}.safetensors"))
        expected[name] = {"case": case, "offset": sum(steps), "steps": go_on(model, tokens, caches)}
    write(out / "kinds.json", expected)


def save_old(path, caches):
    states, metas, classes = [], [], []
    for c in caches:
        kind = type(c).__name__
        classes.append(kind)
        rows = c.keys_and_values() if kind != "RotatingKVCache" else (c.keys, c.values)
        states.append(rows)
        metas.append({"KVCache": "",
                      "QuantizedKVCache": tuple(map(str, (c.offset, getattr(c, "group_size", 0), getattr(c, "bits", 0)))),
                      "RotatingKVCache": tuple(map(str, (getattr(c, "keep", 0), getattr(c, "max_size", 0), c.offset,
                                                         getattr(c, "_idx", 0))))}[kind])
    mx.save_safetensors(str(path), dict(tree_flatten(states)), dict(tree_flatten([metas, METADATA, classes])))


def main():
    arguments = [a for a in sys.argv[1:] if a != "--kinds"]
    out = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).parent / "prompt_caches"
    out.mkdir(exist_ok=True)
    KVCache.step = RotatingKVCache.step = QuantizedKVCache.step = ChunkedKVCache.step = 8  # small files
    if len(arguments) + 1 < len(sys.argv):
        return dump_kinds(out)
    config = dump.config_of(CASE)
    model = dump.load(config, dump.make_weights(config)[1])
    rng = random.Random(CASE)
    tokens = lambda n: [rng.randrange(config["vocab_size"]) for _ in range(n)]
    expected = {}
    for name, (ring, quantized, steps, trimmed) in FILES.items():
        caches = [RotatingKVCache(*ring) if ring else KVCache() for _ in model.layers]
        for i, n in enumerate(steps):
            model(mx.array([tokens(n)]), cache=caches)
            if quantized and i == 0:
                caches = [c.to_quantized(bits=quantized[0], group_size=quantized[1]) for c in caches]
        for c in caches:
            c.trim(trimmed)
        path = out / f"{name}.safetensors"
        if name.startswith("old_"):
            save_old(path, caches)
        else:
            save_prompt_cache(str(path), caches, METADATA)
            caches = load_prompt_cache(str(path))
        offset, made = caches[0].offset, go_on(model, tokens, caches)
        bits, group_size = quantized or (0, 0)
        expected[name] = {"max_size": ring and ring[0], "keep": ring and ring[1], "bits": bits,
                          "group_size": group_size, "offset": offset, "steps": made}
    write(out / "expected.json", expected)
    print(len(expected), "files,", sum(f.stat().st_size for f in out.iterdir()), "bytes")


if __name__ == "__main__":
    main()
