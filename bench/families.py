#!/usr/bin/env python3
"""Speed of one model of each family beside Python mlx-lm, in one run on this machine's CPU.

Needs: pip install mlx-lm mlx-cpu; a built program; a folder with a tokenizer.json (any: only ids are used)

  families.py --tokenizer FOLDER [--program PATH] [--bits 4] [-p 32] [-g 8] [--lengths 512 1024 2048 4096] [CASE ...]

A model is a golden case (tests/golden/cases) eight times as wide, with random weights, in bfloat16 or quantized. Both
read -p random tokens and generate -g more; each number is tokens per second, ours the average of 3 runs, mlx-lm's of one
after a short one. --lengths: also our own prompts of so many tokens, and 16 tokens after them, to see how cost grows.
"""
import argparse
import json
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import time

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.generate import generate_step
from mlx_lm.utils import _get_classes, load_model

ROOT = pathlib.Path(__file__).parent.parent
FAMILIES = ["llama_basic", "phi3", "gemma3_text_tied", "gemma4_text_shared", "cohere2", "gpt2", "qwen3_moe_basic",
            "gpt_oss_plain_rope", "glm4_moe", "deepseek_v3", "qwen3_next_moe", "mamba2_basic", "nemotron_h_dense",
            "granitemoehybrid_dense", "lfm2_basic"]
# What makes hidden_size = heads x head size stay true.
FACTORS = [(r"(hidden_size|conv_dim|block_dim|block_ff_dim|intermediate_size|n_embd|n_inner|d_model|hidden_dim|ffn_hidden_size)$", 8),
           (r"(num|n)_.*heads?$|^n_head$|_n_heads$", 2), (r"head_dim$|_rank$|head_size$", 4)]


def scaled(config):
    out = {}
    for key, value in config.items():
        if isinstance(value, dict) and key == "text_config":
            value = scaled(value)
        elif key == "vocab_size":
            value = 4096
        elif isinstance(value, int) and not isinstance(value, bool):
            value *= next((factor for pattern, factor in FACTORS if re.search(pattern, key)), 1)
        out[key] = value
    return out


def write_model(config, bits, tokenizer, folder):
    """-> parameters"""
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    model.set_dtype(mx.bfloat16)
    count = sum(p.size for _, p in tree_flatten(model.parameters()))
    if bits:
        fits = lambda path, m: hasattr(m, "to_quantized") and m.weight.shape[-1] % 64 == 0
        nn.quantize(model, group_size=64, bits=bits, class_predicate=fits)
        config = config | {"quantization": {"group_size": 64, "bits": bits}}
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())),
                        metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    return count


def python_speed(folder, prompt, generated):
    model = load_model(folder)[0]
    run = lambda tokens, n: list(generate_step(mx.array(tokens), model, max_tokens=n))
    run(prompt[:2], 2)
    start = time.perf_counter()
    first = None
    for _ in generate_step(mx.array(prompt), model, max_tokens=generated + 1):
        first = first or time.perf_counter()
    return len(prompt) / (first - start), generated / (time.perf_counter() - first)


def our_speed(program, folder, prompt, generated, trials=3):
    command = [program, "benchmark", "--model", folder, "-p", prompt, "-g", generated, "-n", trials, "--json"]
    result = json.loads(subprocess.run([str(c) for c in command], capture_output=True, check=True, text=True).stdout)
    averages = result["averages"]
    return averages["prompt_tps"], averages["generation_tps"]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("case", nargs="*", default=FAMILIES)
    ap.add_argument("--program", type=pathlib.Path, default=ROOT / "build/release/bin/mlx_lm")
    ap.add_argument("--tokenizer", type=pathlib.Path, required=True)
    ap.add_argument("--bits", type=int, default=4, help="0: bfloat16")
    ap.add_argument("-p", type=int, default=32)
    ap.add_argument("-g", type=int, default=8)
    ap.add_argument("--lengths", type=int, nargs="*", default=[])
    args = ap.parse_args()
    for case in args.case:
        config = scaled(json.loads((ROOT / "tests/golden/cases" / case / "config.json").read_text()))
        config.pop("quantization", None)
        prompt = random.Random(case).choices(range(4000), k=args.p)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            count = write_model(config, args.bits, args.tokenizer, folder)
            theirs = python_speed(folder, prompt, args.g)
            ours = our_speed(args.program, folder, args.p, args.g)
            line = (f"| {config['model_type']} | {count / 1e6:.1f} M | {theirs[0]:.1f} | {ours[0]:.0f} | "
                    f"{ours[0] / theirs[0]:.0f}x | {theirs[1]:.2f} | {ours[1]:.0f} | {ours[1] / theirs[1]:.0f}x |")
            for length in args.lengths:
                speed = our_speed(args.program, folder, length, 16, 1)
                line += f" {speed[0]:.0f} / {speed[1]:.0f} |"
            print(line, flush=True)


if __name__ == "__main__":
    main()
