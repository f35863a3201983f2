#!/usr/bin/env python3
"""Writes samplers.json: which tokens mlx-lm's sampling filters keep, and what its logits processors make of logits.

Needs: pip install mlx-lm mlx-cpu

  dump_samplers.py [OUT.json]        default: samplers.json beside this script

Logits are drawn again by the test: random.normal((size,), key=random.key(seed)) * scale, rounded to multiples of `step`
unless that is 0 (so that many are equal).

"filters": options of make_sampler, applied in its order, and the ids whose logit is untouched (every other becomes
-infinity): "kept", or for more than 24 their number "count" and "hash" (32-bit FNV-1a over ids: start 2166136261, for
each: xor, then times 16777619). "xtc_threshold" says that XTC acts, with probability 1, at which it does not depend on
chance. A case that hangs on rounding is left out, and one in which a limit of k tokens divides equal ones, of which
mlx-lm keeps any.

"processors": the ids so far, the options of make_logits_processors, and "changed", the logits that differ afterwards.
"""
import json
import pathlib
import random
import sys

import mlx.core as mx
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, apply_xtc, make_logits_processors

mx.disable_compile()
INFINITY = float("inf")


def draw(size, seed, scale, step):
    x = mx.random.normal((size,), key=mx.random.key(seed)) * scale
    return mx.round(x / step) * step if step else x


def apply(x, o):
    if o.get("top_p", 0):
        x = apply_top_p(x, o["top_p"])
    if o.get("min_p", 0):
        x = apply_min_p(x, o["min_p"], o.get("min_tokens_to_keep", 1))
    if "xtc_threshold" in o:
        x = apply_xtc(x, 1.0, o["xtc_threshold"], o.get("xtc_special_tokens", []))
    if o.get("top_k", 0):
        x = apply_top_k(x, o["top_k"])
    return x


def kept_by(x, o):
    masked = apply(x[None], o)[0].tolist()
    kept = [i for i, v in enumerate(masked) if v != -INFINITY]
    values = x.tolist()
    assert all(masked[i] == values[i] for i in kept)
    return kept


def hangs_on_rounding(x, o, kept):
    near = 1e-5 if x.size < 10000 else 2e-3  # mlx-lm adds up to V probabilities one by one in float32
    limits = {"top_p": 1 - 1e-9, "min_p": 1, "xtc_threshold": 0.5}
    for key in limits.keys() & o.keys():
        for factor in (1 - near, 1 + near):
            if kept_by(x, o | {key: min(o[key] * factor, limits[key])}) != kept:
                return True
    return False


def divides_equal_ones(x, o, kept):
    """Whether mlx-lm had a choice: in reverse order it keeps other ids."""
    if not (o.get("top_k") or o.get("min_tokens_to_keep", 1) > 1):
        return False
    values = x.tolist()
    specials = o.get("xtc_special_tokens", [])
    if specials:
        return len(set(values)) < len(values)
    reverse = kept_by(x[::-1], o)
    return sorted(len(values) - 1 - i for i in reverse) != kept or bool(
        {values[i] for i in kept} & {v for i, v in enumerate(values) if i not in set(kept)}
    )


def random_filters(r, size):
    some = lambda: r.choice((0, 1, 1))
    kind = r.choice(("top_p", "min_p", "xtc", "top_k", "all", "all"))
    o = {}
    if kind == "top_p" or kind == "all" and some():
        o["top_p"] = r.choice((0.05, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999))
    if kind == "min_p" or kind == "all" and some():
        o["min_p"] = r.choice((0.001, 0.02, 0.05, 0.1, 0.3, 0.9, 1.0))
        if r.random() < 0.5:
            o["min_tokens_to_keep"] = min(size, r.choice((1, 2, 3, 5, 20)))
    if kind == "xtc" or kind == "all" and some():
        o["xtc_threshold"] = r.choice((0.001, 0.01, 0.03, 0.1, 0.2, 0.5))
        if r.random() < 0.5:
            o["xtc_special_tokens"] = sorted(r.sample(range(size), min(size, 3)))
    if (kind == "top_k" or kind == "all" and some()) and size > 1:
        o["top_k"] = r.choice([k for k in (1, 2, 5, 40, 300) if k < size])
    return o


def filters():
    r = random.Random(1)
    out, left_out = [], 0
    for seed, (size, scale, step) in enumerate(
        [(n, s, t) for n in (2, 5, 33, 128, 129, 500, 3000, 49152) for s in (0.3, 2, 5) for t in (0, 0.25)]
    ):
        x = draw(size, seed, scale, step)
        for _ in range(24 if size < 10000 else 8):
            o = random_filters(r, size)
            if not o:
                continue
            kept = kept_by(x, o)
            if hangs_on_rounding(x, o, kept) or divides_equal_ones(x, o, kept):
                left_out += 1
                continue
            if len(kept) <= 24:
                result = {"kept": kept}
            else:
                fnv = 2166136261
                for i in kept:
                    fnv = (fnv ^ i) * 16777619 % 2**32
                result = {"count": len(kept), "hash": fnv}
            out.append({"logits": [size, seed, scale, step], **o, **result})
    print(f"{len(out)} filters, {left_out} left out")
    return out


def processors():
    r = random.Random(2)
    out = []
    for seed in range(250):
        size = r.choice((4, 16, 50))
        x = draw(size, 1000 + seed, 3, 0)
        tokens = [r.randrange(size) for _ in range(r.choice((0, 1, 5, 30, 60)))]
        o = {}
        if r.random() < 0.4:
            o["logit_bias"] = {str(i): round(r.uniform(-5, 5), 2) for i in r.sample(range(size), 3)}
        for name, penalties in (
            ("repetition", (0.7, 1.1, 1.3, 2.0)), ("presence", (-0.5, 0.2, 1.5)), ("frequency", (-0.1, 0.3, 1.0)),
        ):
            if r.random() < 0.5:
                o[f"{name}_penalty"] = r.choice(penalties)
                if r.random() < 0.6:
                    o[f"{name}_context_size"] = r.choice((0, 1, 3, 8, 1000))
        y = x[None] + 0
        options = o | {"logit_bias": {int(k): v for k, v in o.get("logit_bias", {}).items()}}
        for processor in make_logits_processors(**options):
            y = processor(mx.array(tokens, mx.int32), y)
        before, after = x.tolist(), y[0].tolist()
        changed = [[i, float(f"{v:.9g}")] for i, v in enumerate(after) if v != before[i]]
        out.append({"logits": [size, 1000 + seed, 3, 0], "tokens": tokens, **o, "changed": changed})
    return out


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "samplers.json"
    lines = ["{", '"filters": [', ",\n".join("  " + json.dumps(f) for f in filters()), "],"]
    lines += ['"processors": [', ",\n".join("  " + json.dumps(p) for p in processors()), "]", "}"]
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
