#!/usr/bin/env python3
"""Writes the golden cases: what Python mlx-lm computes on tiny random models.

Needs: pip install mlx-lm mlx-cpu   (the versions that made the committed cases stand in each expected.json)

  dump.py [OUT_DIR] [--only CASE ...]        default OUT_DIR: cases/ beside this script

A case is a folder with config.json (as a model folder has it) and expected.json. Weights are not stored; whoever
checks a case draws them again. The recipe, for each name and shape in expected.json's "parameters":

  seed   = 32-bit FNV-1a of the name's bytes (start 2166136261, for each byte: xor, then times 16777619)
  weight = random.normal(shape, float32, key=random.key(seed)) * 0.12, plus 1 if the shape is one-dimensional and the
           name ends in ".weight" (the weight of a norm), converted to "dtype"
  and if "quantized" holds the name's module (the name without ".weight"): quantize(weight, group_size, bits, mode),
  stored as weight, scales and, for affine, biases.

expected.json: "prompt" (ids), "other" (a second row of the same length), and two results: "exact", from the very same
weights with all arithmetic in float32 (quantized weights dequantized), and "mlx", from mlx-lm's own way of computing
with that checkpoint, only where the two differ. "max_kv_size", where present, is that option of generate, and "kv" a
list of what generate_step makes with quantized keys and values, from "exact" weights and a prompt in pieces of 7
tokens: "bits", "group_size", "start" (quantized_kv_start), "greedy" and "logprobs", those of the greedy ids. A result:
  last     logits at the prompt's last position, the prompt given at once to an empty cache
  inner    {position: its first 8 logits}, from the same call
  chunks   logits at the last position when the prompt comes in pieces of 7 tokens
  steps    the same, token by token
  batch    logits at the last position of both rows in one call, and after one more token (the row's first) each
  greedy   ids that generate_step makes without a sampler, and "gaps", how far the runner-up's logit was behind
"""
import argparse
import json
import pathlib
import random
import tempfile

import mlx.core as mx
import mlx_lm
from mlx.utils import tree_flatten
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes, load_model

PROMPT_LENGTH, CHUNK, GREEDY = 20, 7, 8

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 96, "max_position_embeddings": 512,
    "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu", "torch_dtype": "float32",
}
WIDE = LLAMA | {"hidden_size": 128, "intermediate_size": 256}  # for groups of 128
QWEN2 = LLAMA | {"model_type": "qwen2", "rope_theta": 1000000.0, "rms_norm_eps": 1e-6}
QWEN3 = QWEN2 | {"model_type": "qwen3", "head_dim": 24}


def rope(**scaling):
    return LLAMA | {"rope_scaling": scaling}


def quantized(group_size, bits, mode=None, base=WIDE, **overrides):
    q = {"group_size": group_size, "bits": bits} | ({"mode": mode} if mode else {}) | overrides
    return base | {"quantization": q}


CASES = {
    "llama_basic": LLAMA | {"num_key_value_heads": 4},
    "llama_gqa_head_dim": LLAMA | {"head_dim": 24},
    "llama_mqa": LLAMA | {"num_key_value_heads": 1, "num_hidden_layers": 3},
    "llama_biases": LLAMA | {"attention_bias": True, "mlp_bias": True},
    "llama_untied": LLAMA | {"tie_word_embeddings": False},
    "llama_tied_by_default": {k: v for k, v in LLAMA.items() if k != "tie_word_embeddings"},
    "llama_rope_traditional": LLAMA | {"rope_traditional": True},
    "llama_rope_linear": rope(type="linear", factor=4.0),
    "llama_rope_dynamic": rope(rope_type="dynamic", factor=3.0) | {"max_position_embeddings": 12},
    "llama_rope_llama3": rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                              original_max_position_embeddings=64),
    "llama_rope_yarn": rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=32.0,
                            beta_slow=1.0),
    "llama_rope_yarn_mscale": rope(type="yarn", factor=8.0, original_max_position_embeddings=256, beta_fast=16.0,
                                   beta_slow=2.0, mscale=1.2, mscale_all_dim=0.5),
    "llama_rope_longrope": rope(rope_type="longrope", original_max_position_embeddings=32,
                                short_factor=[1.0 + 0.1 * i for i in range(8)],
                                long_factor=[1.0 + 0.75 * i for i in range(8)]),
    "llama_sliding": LLAMA | {
        "num_hidden_layers": 4, "sliding_window": 8,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]},
    "llama_f16": LLAMA | {"torch_dtype": "float16"},
    "llama_bf16": LLAMA | {"torch_dtype": "bfloat16"},
    # mlx-lm reads a mistral folder as llama, and without layer_types its sliding_window has no effect.
    "mistral": LLAMA | {"model_type": "mistral", "sliding_window": 8, "tie_word_embeddings": False},
    "iquestcoder": LLAMA | {"model_type": "iquestcoder", "head_dim": 16},
    "xverse": LLAMA | {"model_type": "xverse"},
    "qwen2_tied": QWEN2,
    "qwen2_untied": QWEN2 | {"tie_word_embeddings": False},
    "qwen2_yarn": QWEN2 | {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
    "qwen3_tied": QWEN3,
    "qwen3_untied": QWEN3 | {"tie_word_embeddings": False},
    "qwen3_rope_parameters": {k: v for k, v in QWEN3.items() if k != "rope_theta"} | {"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 50000.0, "factor": 4.0, "original_max_position_embeddings": 32}},
    "qwen3_max_kv_size": QWEN3,
    "llama_kv_bits": LLAMA | {"head_dim": 64},
    "llama_q2": quantized(32, 2), "llama_q3": quantized(64, 3), "llama_q4": quantized(64, 4),
    "llama_q4_g32": quantized(32, 4), "llama_q4_g128": quantized(128, 4), "llama_q5": quantized(32, 5),
    "llama_q6": quantized(64, 6), "llama_q8": quantized(64, 8), "llama_q8_g128": quantized(128, 8),
    "llama_q4_f16": quantized(32, 4, "affine", WIDE | {"torch_dtype": "float16"}),
    "llama_q4_bf16": quantized(64, 4, "affine", WIDE | {"torch_dtype": "bfloat16", "attention_bias": True}),
    "llama_q4_overrides": quantized(64, 4, None, WIDE | {"tie_word_embeddings": False}, **{
        "model.embed_tokens": {"group_size": 32, "bits": 8}, "lm_head": {"group_size": 64, "bits": 6},
        "model.layers.0.self_attn.q_proj": {"group_size": 32, "bits": 8}, "model.layers.0.self_attn.o_proj": False,
        "model.layers.1.mlp.down_proj": False, "model.layers.1.mlp.up_proj": {"group_size": 128, "bits": 2}}),
    "llama_mxfp4": quantized(32, 4, "mxfp4"), "llama_mxfp8": quantized(32, 8, "mxfp8"),
    "llama_nvfp4": quantized(16, 4, "nvfp4"),
    "llama_mxfp4_bf16": quantized(32, 4, "mxfp4", WIDE | {"torch_dtype": "bfloat16"}),
    "qwen3_q4": quantized(64, 4, None, QWEN3 | {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32}),
}
KV_BITS = {"llama_kv_bits": [(8, 64, 0), (8, 32, 25), (6, 32, 10), (4, 64, 0), (4, 32, 14), (2, 64, 0)]}
MAX_KV_SIZE = {"qwen3_max_kv_size": (16, 24)}  # case: (the option, greedy tokens), past the wrap


def draw(name, shape, dtype):
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    w = mx.random.normal(shape, key=mx.random.key(seed)) * 0.12
    return (w + 1 if len(shape) == 1 and name.endswith(".weight") else w).astype(dtype)


def quantization_of(config, module):
    """How the case quantizes a module: every linear layer and embedding, but for the exceptions in its config."""
    q = dict(config["quantization"])
    own = q.get(module, {k: q[k] for k in ("group_size", "bits", "mode") if k in q})
    return own and {"mode": "affine"} | own


def make_weights(config):
    """-> the checkpoint, the same with all values in float32, {name: shape}, {module: quantization}"""
    dtype = getattr(mx, config["torch_dtype"])
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    shapes = {name: list(p.shape) for name, p in sorted(tree_flatten(model.parameters()))}
    stored, exact, kinds = {}, {}, {}
    for name, shape in shapes.items():
        w, module = draw(name, shape, dtype), name.removesuffix(".weight")
        kind = quantization_of(config, module) if "quantization" in config and len(shape) == 2 else None
        if kind:
            kinds[module] = kind
            stored[name], scales, *biases = mx.quantize(w, **kind)
            stored[module + ".scales"] = scales
            if biases:
                stored[module + ".biases"], scales = biases[0], scales.astype(mx.float32)
                biases = [biases[0].astype(mx.float32)]
            exact[name] = mx.dequantize(stored[name], scales, *biases, dtype=mx.float32, **kind)
        else:
            stored[name], exact[name] = w, w.astype(mx.float32)
    return stored, exact, shapes, kinds


def load(config, weights):
    with tempfile.TemporaryDirectory() as folder:
        mx.save_safetensors(folder + "/model.safetensors", weights, metadata={"format": "mlx"})
        pathlib.Path(folder, "config.json").write_text(json.dumps(config))
        return load_model(pathlib.Path(folder))[0]


def numbers(x):
    x = x.astype(mx.float32).tolist()
    short = lambda v: [short(e) for e in v] if isinstance(v, list) else float(f"{v:.7g}")
    return short(x)


def run(model, prompt, other, max_kv_size, n_greedy):
    fresh = lambda: make_prompt_cache(model, max_kv_size)
    whole = model(mx.array([prompt]), cache=fresh())[0]
    result = {"last": numbers(whole[-1]),
              "inner": {str(p): numbers(whole[p, :8]) for p in (0, 1, CHUNK, PROMPT_LENGTH - 2)}}
    for key, size in (("chunks", CHUNK), ("steps", 1)):
        cache = fresh()
        for start in range(0, len(prompt), size):
            logits = model(mx.array([prompt[start:start + size]]), cache=cache)
        result[key] = numbers(logits[0, -1])
    cache = fresh()
    first = model(mx.array([prompt, other]), cache=cache)[:, -1]
    after = model(mx.array([prompt[:1], other[:1]]), cache=cache)[:, -1]
    result["batch"] = [numbers(first), numbers(after)]
    ids, gaps = [], []
    for token, logprobs in generate_step(mx.array(prompt), model, max_tokens=n_greedy, max_kv_size=max_kv_size):
        second, best = mx.sort(logprobs.astype(mx.float32))[-2:].tolist()
        ids.append(token), gaps.append(round(best - second, 4))
    return result | {"greedy": ids, "gaps": gaps}


def run_kv(model, prompt, bits, group_size, start):
    ids, chosen = [], []
    for token, logprobs in generate_step(mx.array(prompt), model, max_tokens=GREEDY, prefill_step_size=CHUNK,
                                         kv_bits=bits, kv_group_size=group_size, quantized_kv_start=start):
        ids.append(token), chosen.append(logprobs[token])
    return {"bits": bits, "group_size": group_size, "start": start, "greedy": ids,
            "logprobs": numbers(mx.stack(chosen))}


def dump(case, config, out):
    rng = random.Random(case)
    prompt, other = ([rng.randrange(config["vocab_size"]) for _ in range(PROMPT_LENGTH)] for _ in range(2))
    max_kv_size, n_greedy = MAX_KV_SIZE.get(case, (None, GREEDY))
    stored, exact, shapes, kinds = make_weights(config)
    plain = {k: v for k, v in config.items() if k != "quantization"}
    expected = {"mlx_lm_version": mlx_lm.__version__, "mlx_version": mx.__version__, "dtype": config["torch_dtype"], "parameters": shapes,
                "quantized": kinds, "prompt": prompt, "other": other}
    if max_kv_size:
        expected["max_kv_size"] = max_kv_size
    if case in KV_BITS:
        expected["kv"] = [run_kv(load(plain, exact), prompt, *options) for options in KV_BITS[case]]
    results = {"exact": run(load(plain, exact), prompt, other, max_kv_size, n_greedy)}
    if kinds or config["torch_dtype"] != "float32":
        results["mlx"] = run(load(config, stored), prompt, other, max_kv_size, n_greedy)
    folder = out / case
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    compact = lambda v: json.dumps(v, separators=(",", ":"))
    lines = [f'"{k}": {compact(v)}' for k, v in expected.items()]
    for name, result in results.items():
        lines.append(f'"{name}": {{\n' + ",\n".join(f'  "{k}": {compact(v)}' for k, v in result.items()) + "}")
    (folder / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    logits, own = mx.array(results["exact"]["last"]), results.get("mlx", results["exact"])
    print(f"{case}: logits of spread {logits.std().item():.2f}; chunks - whole "
          f"{mx.abs(mx.array(results['exact']['chunks']) - logits).max().item():.1e}, steps - whole "
          f"{mx.abs(mx.array(results['exact']['steps']) - logits).max().item():.1e}, mlx - exact "
          f"{mx.abs(mx.array(own['last']) - logits).max().item():.1e}; smallest gap {min(results['exact']['gaps'])}; "
          f"{(folder / 'expected.json').stat().st_size} bytes")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).parent / "cases")
    ap.add_argument("--only", nargs="+", metavar="CASE", choices=CASES, default=list(CASES))
    args = ap.parse_args()
    for case in args.only:
        dump(case, CASES[case], args.out)


if __name__ == "__main__":
    main()
