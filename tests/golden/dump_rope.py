#!/usr/bin/env python3
"""Writes rope.json: rotations by mlx-lm's rope_utils, for every scaling.

Needs: pip install mlx-lm mlx-cpu

  dump_rope.py [OUT.json]        default: rope.json beside this script

{"x": rows of one head, "offsets": positions of the first row, "cases": [{"dims", "base", "traditional",
"max_position_embeddings", "scaling": the object or null, "rotated": for each offset the rows}]}
"""
import json
import pathlib
import sys

import mlx.core as mx
from mlx_lm.models.rope_utils import initialize_rope

D, L, OFFSETS = 16, 3, [0, 5, 1000]

CASES = [
    dict(), dict(traditional=True), dict(dims=8), dict(dims=12, traditional=True), dict(base=1e6),
    dict(scaling={"type": "default"}),
    dict(scaling={"rope_type": "linear", "factor": 4.0}),
    dict(scaling={"type": "linear", "rope_type": "yarn", "factor": 2.5}, traditional=True),  # "type" goes first
    dict(scaling={"type": "dynamic", "factor": 3.0}, max_position_embeddings=6),
    dict(scaling={"rope_type": "dynamic", "factor": 2.0}, max_position_embeddings=512, dims=12),
    dict(scaling={"rope_type": "llama3", "factor": 8.0}),
    dict(scaling={"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 256}, base=500000.0),
    dict(scaling={"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 2.0, "high_freq_factor": 2.0,
                  "original_max_position_embeddings": 128}, dims=12, traditional=True),
    dict(scaling={"rope_type": "yarn", "factor": 4.0}),
    dict(scaling={"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 16.0,
                  "beta_slow": 2.0, "mscale": 1.2, "mscale_all_dim": 0.5}, traditional=True),
    dict(scaling={"type": "deepseek_yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0}),
    dict(scaling={"type": "telechat3-yarn", "factor": 0.5}, dims=8),  # no stretching, no magnitude
    dict(scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 1.0}),
    dict(scaling={"type": "longrope", "original_max_position_embeddings": 32, "short_factor": [1.0] * 8,
                  "long_factor": [1.0 + 0.75 * i for i in range(8)]}, max_position_embeddings=512),
    dict(scaling={"type": "longrope", "original_max_position_embeddings": 512, "short_factor": 1.0, "long_factor": 1.5},
         max_position_embeddings=256, dims=12, traditional=True),
    dict(scaling={"rope_type": "proportional"}),
    dict(scaling={"rope_type": "proportional", "partial_rotary_factor": 0.25}),
    dict(scaling={"rope_type": "proportional", "partial_rotary_factor": 0.7, "factor": 8.0}, traditional=True),
    dict(scaling={"type": "mrope", "mrope_section": [2, 3, 3]}),
]


def numbers(x):
    short = lambda v: [short(e) for e in v] if isinstance(v, list) else float(f"{v:.7g}")
    return short(x.tolist())


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "rope.json"
    x = mx.array(numbers(mx.random.normal((L, D), key=mx.random.key(0))))
    lines = []
    for case in CASES:
        case = {"dims": D, "base": 10000.0, "traditional": False, "max_position_embeddings": 2048, "scaling": None} | case
        rope = initialize_rope(case["dims"], case["base"], case["traditional"], case["scaling"],
                               case["max_position_embeddings"])
        case["rotated"] = [numbers(rope(x[None, None], offset=offset)[0, 0]) for offset in OFFSETS]
        lines.append(json.dumps(case, separators=(",", ":")))
    out.write_text(f'{{"x": {json.dumps(numbers(x))},\n"offsets": {OFFSETS},\n"cases": [\n' + ",\n".join(lines) + "\n]}\n")
    print(len(CASES), "cases,", out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
