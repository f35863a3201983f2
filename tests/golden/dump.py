#!/usr/bin/env python3
"""Writes what Python mlx-lm computes on tiny random models: the golden cases.

Needs: pip install mlx-lm mlx-cpu   (the versions that made the committed cases stand in each expected.json)

  dump.py [CASE ...] [--cases FOLDER]        default: every folder in cases/ beside this script

A case is a folder with a config.json, as a model folder has it, which is written by hand; beside it this script writes
expected.json. "torch_dtype" is the type of the weights. An options.json may ask for more:
  note         what a reader should know: where mlx-lm is wrong, for example
  max_kv_size  that option of generate, and greedy, the number of greedy tokens
  kv           a list of [bits, group_size, quantized_kv_start]: what generate_step makes with quantized keys and values
  norms        what is added to the weights of norms in place of 1
  gains        ends of the names of other tensors to which 1 is added
  parameters   {name: shape} or {name: [type, shape]}: a checkpoint as others publish it, before mlx-lm's sanitize, in
               place of the model's own parameters. Types: uint8, uint32, int32 (random bits), fp8 (e4m3 as uint8),
               e8m0 (exponents near 0, as uint8), float32, float16, bfloat16; zeros:int32 and so on are zeros, small:float32
               and so on a twentieth of what would be drawn (scales)

Weights are not stored; whoever checks a case draws them again. The recipe, for each name and shape in expected.json's
"parameters":

  seed   = 32-bit FNV-1a of the name's bytes (start 2166136261, for each byte: xor, then times 16777619)
  weight = random.normal(shape, float32, key=random.key(seed)) * 0.12, plus 1 if the shape is one-dimensional and the
           name ends in ".weight" (the weight of a norm; "norms" and "gains" say otherwise), converted to "dtype"
  and if "quantized" holds the name's module (the name without ".weight"): quantize(weight, group_size, bits, mode),
  stored as weight, scales and, for affine, biases.
  Where "parameters" names a type: bits are random.bits(shape, width, key), fp8 is to_fp8(weight), e8m0 is 121 plus two
  random bits.

expected.json: "prompt" (ids), "other" (a second row of the same length), and two results: "exact", from the very same
weights with all arithmetic in float32 (quantized weights dequantized), and "mlx", from mlx-lm's own way of computing
with that checkpoint, only where the two differ. "kv": for each entry of the option "bits", "group_size", "start",
"greedy" and "logprobs", those of the greedy ids, from "exact" weights and a prompt in pieces of 7 tokens. A result:
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

mx.disable_compile()  # which calls a compiler for every new shape

PROMPT_LENGTH, CHUNK, GREEDY = 40, 7, 24
CASES = pathlib.Path(__file__).parent / "cases"
BITS = {"uint8": (1, mx.uint8), "uint32": (4, mx.uint32), "int32": (4, mx.int32)}


def config_of(case, cases=CASES):
    return json.loads((cases / case / "config.json").read_text())


def options_of(case, cases=CASES):
    path = cases / case / "options.json"
    return json.loads(path.read_text()) if path.exists() else {}


def vocab_size(config):
    return config["vocab_size"] if "vocab_size" in config else config["text_config"]["vocab_size"]


def key(name):
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    return mx.random.key(seed)


def draw(name, shape, dtype, norms=1, gains=()):
    w = mx.random.normal(shape, key=key(name)) * 0.12
    near = norms if len(shape) == 1 and name.endswith(".weight") else 1 if name.endswith(tuple(gains)) else 0
    return (w + near).astype(dtype)


def draw_stored(name, kind, shape):
    """A tensor of a type of its own."""
    if kind.startswith("zeros:"):
        return mx.zeros(shape, getattr(mx, kind.removeprefix("zeros:")))
    if kind.startswith("small:"):
        return (draw(name, shape, mx.float32) * 0.05).astype(getattr(mx, kind.removeprefix("small:")))
    if kind in BITS:
        width, dtype = BITS[kind]
        return bits(name, shape, width).view(dtype)
    if kind == "fp8":
        return mx.to_fp8(draw(name, shape, mx.float32))
    if kind == "e8m0":
        return (121 + bits(name, shape, 1) % 4).astype(mx.uint8)
    return draw(name, shape, getattr(mx, kind))


def bits(name, shape, width):
    dtype = {1: mx.uint8, 4: mx.uint32}[width]
    words = mx.random.randint(0, 256, [*shape[:-1], shape[-1] * width], key=key(name)).astype(mx.uint8)
    return words.view(dtype)


def quantization_of(config, module):
    """How the case quantizes a module: every linear layer and embedding, but for the exceptions in its config."""
    q = dict(config["quantization"])
    own = q.get(module, {k: q[k] for k in ("group_size", "bits", "mode") if k in q})
    return own and {"mode": "affine"} | own


def make_weights(config, raw=None, norms=1, gains=()):
    """-> the checkpoint, the same with all values in float32, {name: shape}, {module: quantization}"""
    dtype = getattr(mx, config["torch_dtype"])
    stored, exact, kinds = {}, {}, {}
    if raw:
        for name, entry in sorted(raw.items()):
            own = isinstance(entry[0], str)
            w = draw_stored(name, *entry) if own else draw(name, entry, dtype, norms, gains)
            stored[name], exact[name] = w, w.astype(mx.float32) if mx.issubdtype(w.dtype, mx.floating) else w
        return stored, exact, dict(sorted(raw.items())), kinds
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    shapes = {name: list(p.shape) for name, p in sorted(tree_flatten(model.parameters()))}
    can = {name for name, module in model.named_modules() if hasattr(module, "to_quantized")}
    for name, shape in shapes.items():
        w, module = draw(name, shape, dtype, norms, gains), name.removesuffix(".weight")
        kind = quantization_of(config, module) if "quantization" in config and module in can else None
        if kind and name.endswith(".weight") and shape[-1] % kind["group_size"] == 0:
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


def dump(case, cases):
    config, options = config_of(case, cases), options_of(case, cases)
    rng = random.Random(case)
    prompt, other = ([rng.randrange(vocab_size(config)) for _ in range(PROMPT_LENGTH)] for _ in range(2))
    max_kv_size, n_greedy = options.get("max_kv_size"), options.get("greedy", GREEDY)
    stored, exact, shapes, kinds = make_weights(config, options.get("parameters"), options.get("norms", 1),
                                                options.get("gains", []))
    plain = {k: v for k, v in config.items() if k != "quantization"}
    expected = {"mlx_lm_version": mlx_lm.__version__, "mlx_version": mx.__version__, "dtype": config["torch_dtype"],
                "parameters": shapes, "quantized": kinds, "prompt": prompt, "other": other}
    if max_kv_size:
        expected["max_kv_size"] = max_kv_size
    expected |= {key: options[key] for key in ("norms", "gains") if key in options}
    if "kv" in options:
        expected["kv"] = [run_kv(load(plain, exact), prompt, *entry) for entry in options["kv"]]
    results = {"exact": run(load(plain, exact), prompt, other, max_kv_size, n_greedy)}
    if kinds or config["torch_dtype"] != "float32":
        results["mlx"] = run(load(config, stored), prompt, other, max_kv_size, n_greedy)
    compact = lambda v: json.dumps(v, separators=(",", ":"))
    lines = [f'"{k}": {compact(v)}' for k, v in expected.items()]
    for name, result in results.items():
        lines.append(f'"{name}": {{\n' + ",\n".join(f'  "{k}": {compact(v)}' for k, v in result.items()) + "}")
    path = cases / case / "expected.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    logits, own = mx.array(results["exact"]["last"]), results.get("mlx", results["exact"])
    print(f"{case}: logits of spread {logits.std().item():.2f}; chunks - whole "
          f"{mx.abs(mx.array(results['exact']['chunks']) - logits).max().item():.1e}, steps - whole "
          f"{mx.abs(mx.array(results['exact']['steps']) - logits).max().item():.1e}, mlx - exact "
          f"{mx.abs(mx.array(own['last']) - logits).max().item():.1e}; smallest gap {min(results['exact']['gaps'])}; "
          f"{path.stat().st_size} bytes", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("case", nargs="*", metavar="CASE")
    ap.add_argument("--cases", type=pathlib.Path, default=CASES, metavar="FOLDER")
    args = ap.parse_args()
    for case in args.case or sorted(path.parent.name for path in args.cases.glob("*/config.json")):
        dump(case, args.cases)


if __name__ == "__main__":
    main()
