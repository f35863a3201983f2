#!/usr/bin/env python3
"""Writes caches.json: what the tokens of each step see in mlx-lm's KVCache and RotatingKVCache.

Needs: pip install mlx-lm mlx-cpu

  dump_caches.py [OUT.json]        default: caches.json beside this script

Tokens are numbered from 1 as they come. A case: "max_size" and "keep" of a RotatingKVCache (max_size null: a KVCache), and
"steps", one after another:
  {"add": n, "first": the numbers that the step's first token sees, "last": those that its last one sees}
  {"trim": n, "trimmed": what trim(n) returned}
each with "offset" and "trimmable" after it. Numbers are given in order as [from, to] ranges, both ends included.
"""
import json
import pathlib
import random
import sys

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache


def ranges(numbers):
    out = []
    for n in sorted(numbers):
        if out and out[-1][1] == n - 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return out


def add(cache, first, n):
    mask = cache.make_mask(n, return_array=False, window_size=None)
    keys = mx.arange(first, first + n, dtype=mx.float32).reshape(1, 1, n, 1)
    seen = [int(k) for k in cache.update_and_fetch(keys, -keys)[0].flatten().tolist()]
    if mask is None:
        rows = [[True] * len(seen)] * n
    elif isinstance(mask, str):
        rows = [[j <= len(seen) - n + i for j in range(len(seen))] for i in range(n)]
    else:
        rows = mask.reshape(n, -1).tolist()
    visible = lambda row: ranges(k for k, shown in zip(seen, row) if shown)
    return {"add": n, "first": visible(rows[0]), "last": visible(rows[-1])}


def case(max_size, keep, steps):
    cache = KVCache() if max_size is None else RotatingKVCache(max_size, keep)
    first, out = 1, []
    for kind, n in steps:
        if kind == "add":
            out.append(add(cache, first, n))
            first += n
        elif cache.is_trimmable():
            out.append({"trim": n, "trimmed": cache.trim(n)})
        else:
            continue
        out[-1] |= {"offset": cache.offset, "trimmable": cache.is_trimmable()}
    return {"max_size": max_size, "keep": keep, "steps": out}


def random_steps(rng, count, longest):
    kinds = [("add", 1)] * 6 + [("add", None)] * 3 + [("trim", None)] * 2
    for kind, n in (rng.choice(kinds) for _ in range(count)):
        yield kind, n or rng.randint(1, longest)


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "caches.json"
    rng = random.Random(1)
    cases = []
    for max_size, keep in [(None, 0), (1, 0), (2, 0), (2, 1), (3, 0), (5, 4), (8, 0), (8, 4), (16, 4), (16, 0)]:
        for longest in (3, 12):
            cases.append(case(max_size, keep, random_steps(rng, 25, longest)))
    # Past the 256 rows by which buffers grow, and a ring that fills up one token at a time.
    for max_size, keep in [(None, 0), (300, 4), (600, 0)]:
        cases.append(case(max_size, keep, random_steps(rng, 40, 150)))
    cases.append(case(260, 4, [("add", 250)] + [("add", 1)] * 20 + [("add", 7)] + [("add", 1)] * 3))
    cases.append(case(300, 4, [("add", 1)] * 2 + [("add", 300), ("add", 1), ("add", 400), ("add", 1), ("add", 2)]))
    lines = []
    for c in cases:
        steps = ",\n  ".join(json.dumps(s, separators=(",", ":")) for s in c["steps"])
        lines.append(f'{{"max_size": {json.dumps(c["max_size"])}, "keep": {c["keep"]}, "steps": [\n  {steps}]}}')
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(len(cases), "cases,", out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
