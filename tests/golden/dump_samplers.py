#!/usr/bin/env python3
"""Writes samplers.json: which tokens mlx-lm's sampling filters keep, and what its logits processors make of logits.

Needs: pip install mlx-lm mlx-cpu

  dump_samplers.py [OUT.json]        default: samplers.json beside this script

"vectors" holds log-probabilities by name. "filters": each entry names a vector, a filter with its arguments, and "kept",
the ids whose log-probability is untouched; every other becomes -infinity. XTC is dumped with probability 1, at which it
does not depend on chance. An entry that hangs on rounding or on a tie is left out. "processors": logits in, the ids so far, the option, logits out.
"""
import json
import pathlib
import sys

import mlx.core as mx
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, apply_xtc, make_logits_processors


def log_softmax(x):
    return x - mx.logsumexp(x, keepdims=True)


def numbers(x):
    return [float(f"{v:.9g}") for v in x.tolist()]


VECTORS = {
    "peaked": log_softmax(mx.random.normal((32,), key=mx.random.key(1)) * 4),
    "flat": log_softmax(mx.random.normal((32,), key=mx.random.key(2)) * 0.3),
    "usual": log_softmax(mx.random.normal((48,), key=mx.random.key(3)) * 2),
    "certain": log_softmax(mx.array([0.0, 30.0, -5.0, 1.0, 2.0])),
    "halves": mx.log(mx.array([0.5, 0.25, 0.125, 0.0625, 0.0625])),  # a sum that meets top_p exactly, and a tie
}
FILTERS = (
    [("top_p", {"top_p": p}) for p in (0.05, 0.3, 0.5, 0.75, 0.9, 0.99)]
    + [("min_p", {"min_p": p, "min_tokens_to_keep": k}) for p, k in ((0.01, 1), (0.05, 1), (0.2, 1), (0.9, 1), (0.9, 3), (1.0, 4))]
    + [("top_k", {"top_k": k}) for k in (1, 2, 3)]
    + [("xtc", {"threshold": t, "special_tokens": s}) for t, s in ((0.0, []), (0.05, []), (0.1, []), (0.2, []), (0.5, []), (0.01, [0, 1, 2]))]
)
PROCESSORS = (
    {"logit_bias": {"3": 2.5, "7": -4.0}},
    {"repetition_penalty": 1.3}, {"repetition_penalty": 0.8, "repetition_context_size": 3},
    {"presence_penalty": 0.7}, {"presence_penalty": 0.7, "presence_context_size": 4},
    {"frequency_penalty": 0.4}, {"frequency_penalty": 0.4, "frequency_context_size": 5},
    {"logit_bias": {"5": 1.0}, "repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3},
)


def apply(name, x, a):
    if name == "top_p":
        return apply_top_p(x, a["top_p"])
    if name == "min_p":
        return apply_min_p(x, a["min_p"], a["min_tokens_to_keep"])
    if name == "top_k":
        return apply_top_k(x, a["top_k"])
    return apply_xtc(x, 1.0, a["threshold"], a["special_tokens"])


def kept_by(name, x, arguments):
    masked = apply(name, x[None], arguments)[0].tolist()
    kept = [i for i, v in enumerate(masked) if v != -float("inf")]
    assert all(masked[i] == x[i].item() for i in kept)
    return kept


def hangs_on_rounding(name, x, arguments, kept):
    tied = {x[i].item() for i in kept} & {v for i, v in enumerate(x.tolist()) if i not in kept}
    near = ({k: v * f if isinstance(v, float) and 0 < v * f <= 1 else v for k, v in arguments.items()} for f in (1 - 1e-5, 1 + 1e-5))
    return bool(tied) or (name != "xtc" or arguments["threshold"] < 0.5) and any(kept_by(name, x, a) != kept for a in near)


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "samplers.json"
    filters = []
    for vector, x in VECTORS.items():
        for name, arguments in FILTERS:
            kept = kept_by(name, x, arguments)
            if hangs_on_rounding(name, x, arguments, kept):
                continue
            filters.append({"vector": vector, "filter": name, **arguments, "kept": kept})
    logits = mx.random.normal((16,), key=mx.random.key(4)) * 3
    tokens = [2, 3, 3, 9, 2, 7, 3, 0, 9]
    processors = []
    for options in PROCESSORS:
        y = logits[None] + 0
        bias = {int(k): v for k, v in options.get("logit_bias", {}).items()}
        for processor in make_logits_processors(**(options | {"logit_bias": bias})):
            y = processor(mx.array(tokens), y)
        processors.append({**options, "result": numbers(y[0])})
    lines = ["{", '"vectors": {', ",\n".join(f'  "{k}": {json.dumps(numbers(v))}' for k, v in VECTORS.items()), "},"]
    lines += ['"filters": [', ",\n".join("  " + json.dumps(f) for f in filters), "],"]
    lines += [f'"logits": {json.dumps(numbers(logits))},', f'"tokens": {tokens},']
    lines += ['"processors": [', ",\n".join("  " + json.dumps(p) for p in processors), "]", "}"]
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
