#!/usr/bin/env python3
"""Writes the golden adapters: what Python mlx-lm computes with adapters on tiny random models.

Needs what dump.py needs.

  dump_adapters.py [OUT_DIR] [--only CASE ...]        default OUT_DIR: adapters/ beside this script

A case is one file. "config", "parameters", "quantized" and "dtype" describe the model as in dump.py, whose recipe draws
its weights. "adapter_config" is the adapter's adapter_config.json and "adapter" the names and shapes of the tensors in
its file, which is "adapter_file" and of type "adapter_dtype". They are drawn by the same recipe with "adapter." before
the name; 1 is added to DoRA's magnitudes as well (names that end in ".m" or "lora_magnitude_vector").

Results: "exact", the model's weights in float32 (dequantized), and "mlx", mlx-lm's own way with that checkpoint, where
the two differ; each with "last" and "steps", the logits at the prompt's last position, the prompt given at once and
token by token, and "greedy" with "gaps", as in dump.py.

mlx-lm does not read PEFT's folders: what those should give is computed by the mlx-lm adapter that is the same, with
ranks filled up with zeros and the scales multiplied in.
"""
import argparse
import json
import pathlib
import random
import tempfile

import mlx.core as mx
import mlx_lm
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.generate import generate_step

import dump

PEFT = "base_model.model."
PROMPT_LENGTH, GREEDY = 20, 8

LLAMA = dump.config_of("llama_tied_by_default") | {"tie_word_embeddings": True}
QWEN2, QWEN3 = dump.config_of("qwen2_tied"), dump.config_of("qwen3_tied")
Q4 = dump.config_of("llama_q4")
QWEN3_Q4 = dump.config_of("qwen3_q4")
BIASES = dump.config_of("llama_biases")
UNTIED = {"tie_word_embeddings": False}


def lora(num_layers=-1, kind="lora", rank=8, scale=2.0, **parameters):
    return {"fine_tune_type": kind, "num_layers": num_layers,
            "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.1} | parameters}


def peft(r=8, alpha=16, targets=("q_proj", "v_proj"), **more):
    return {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "inference_mode": True,
            "r": r, "lora_alpha": alpha, "lora_dropout": 0.05, "bias": "none", "fan_in_fan_out": False,
            "target_modules": list(targets), "modules_to_save": None, "use_rslora": False, "use_dora": False,
            "rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": None, "layer_replication": None,
            "megatron_config": None, "loftq_config": {}, "init_lora_weights": True} | more


ATTENTION = ["self_attn.q_proj", "self_attn.v_proj"]
CASES = {  # the model, the adapter; its tensors' type if it is not float32
    "lora_llama": (LLAMA, lora()),
    "lora_llama_biases": (BIASES, lora(rank=5, scale=1.5)),
    "lora_llama_last_layer": (LLAMA, lora(1)),
    "lora_llama_keys": (LLAMA | {"num_hidden_layers": 3}, lora(2, keys=ATTENTION + ["mlp.down_proj"])),
    "lora_llama_embedding": (LLAMA, lora(keys=["model.embed_tokens", "self_attn.o_proj"])),
    "lora_llama_head": (LLAMA | UNTIED, lora(keys=["model.embed_tokens", "lm_head"])),
    "lora_llama_f16": (LLAMA | {"torch_dtype": "float16"}, lora(), "float16"),
    "lora_llama_q4": (Q4, lora()),
    "lora_llama_q4_bf16": (dump.config_of("llama_q4_bf16"), lora(keys=ATTENTION), "bfloat16"),
    "lora_llama_q4_embedding": (Q4, lora(1, keys=["model.embed_tokens", "self_attn.k_proj"])),
    "lora_llama_q4_head": (Q4 | UNTIED, lora(keys=["lm_head"], rank=3)),
    "lora_llama_mxfp4": (dump.config_of("llama_mxfp4"), lora(keys=ATTENTION)),
    "lora_qwen2": (QWEN2, lora(keys=ATTENTION, rank=1)),
    "lora_qwen3": (QWEN3, lora(1, rank=16)),
    "lora_qwen3_q4": (QWEN3_Q4, lora(keys=ATTENTION)),
    "dora_llama": (LLAMA, lora(kind="dora")),
    "dora_llama_biases": (BIASES, lora(kind="dora", keys=ATTENTION)),
    "dora_llama_embedding": (LLAMA, lora(kind="dora", keys=["model.embed_tokens"])),
    "dora_llama_q4": (Q4, lora(1, kind="dora")),
    "dora_qwen3": (QWEN3, lora(kind="dora", keys=ATTENTION)),
    "dora_qwen3_q4": (QWEN3_Q4, lora(kind="dora", rank=4)),
    "full_llama": (LLAMA, {"fine_tune_type": "full", "num_layers": 1}),
    "full_llama_all": (BIASES, {"fine_tune_type": "full", "num_layers": -1}),
    "full_llama_bf16": (LLAMA | {"torch_dtype": "bfloat16"}, {"fine_tune_type": "full", "num_layers": 1},
                        "bfloat16"),
    "full_qwen3_q4": (QWEN3_Q4, {"fine_tune_type": "full", "num_layers": 1}),  # norms only
    "peft_llama": (LLAMA, peft()),
    "peft_llama_q4": (Q4, peft(r=4, alpha=12, targets=["q_proj", "o_proj", "gate_proj", "down_proj"]), "float16"),
    "peft_llama_patterns": (LLAMA, peft(
        use_rslora=True, rank_pattern={"v_proj": 4, "layers.1.self_attn.q_proj": 3},
        alpha_pattern={"^model.layers.0.self_attn.q_proj": 5, "layers.1.self_attn.v_proj": 2.5})),
    "peft_llama_dora": (BIASES, peft(use_dora=True, targets=["q_proj", "down_proj"])),
    "peft_qwen3_embedding": (QWEN3 | UNTIED, peft(targets=["embed_tokens", "k_proj"])),
    "peft_qwen3_saved": (QWEN3 | UNTIED, peft(modules_to_save=["lm_head", "norm"])),
}


def draw(name, shape, dtype):
    x = dump.draw("adapter." + name, shape, mx.float32)
    return (x + 1 if name.endswith((".m", "lora_magnitude_vector")) else x).astype(getattr(mx, dtype))


def mlx_shapes(model, adapter):
    """{name: shape} of what mlx-lm would train."""
    if adapter["fine_tune_type"] == "full":
        model.freeze()
        for layer in model.layers[-max(adapter["num_layers"], 0):]:
            layer.unfreeze()
        trained = {name: p for name, p in tree_flatten(model.trainable_parameters())}
        if any(name.endswith(".scales") for name in trained):  # whole numbers have no gradient
            trained = {name: p for name, p in trained.items() if name.endswith("norm.weight")}
        return {name: list(p.shape) for name, p in trained.items()}
    linear_to_lora_layers(model, adapter["num_layers"], adapter["lora_parameters"], adapter["fine_tune_type"] == "dora")
    return {name: list(p.shape) for name, p in tree_flatten(model.parameters())
            if name.rsplit(".", 1)[-1] in ("lora_a", "lora_b", "m")}


def pattern(patterns, module, default):
    for name, value in patterns.items():
        if module == name.removeprefix("^") if name[0] == "^" else module == name or module.endswith("." + name):
            return value
    return default


def peft_shapes(shapes, adapter):
    """{name: shape} of what PEFT would save."""
    out = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if any(module.split(".")[-1] == t for t in adapter["target_modules"]) and name != module:
            r = pattern(adapter["rank_pattern"], module, adapter["r"])
            rows, cols = shape
            if module.endswith("embed_tokens"):
                out |= {f"{PEFT}{module}.lora_embedding_A": [r, rows], f"{PEFT}{module}.lora_embedding_B": [cols, r]}
                continue
            out |= {f"{PEFT}{module}.lora_A.weight": [r, cols], f"{PEFT}{module}.lora_B.weight": [rows, r]}
            if adapter["use_dora"]:
                out[f"{PEFT}{module}.lora_magnitude_vector"] = [rows]
        elif module.split(".")[-1] in (adapter["modules_to_save"] or []):
            out[PEFT + name] = shape
    return out


def mlx_twin(tensors, adapter):
    """The same adapter in mlx-lm's form: its configuration, its tensors, and tensors of the model that it replaces."""
    rank = max([adapter["r"], *adapter["rank_pattern"].values()])
    low, replaced = {}, {}
    for name, x in tensors.items():
        path = name.removeprefix(PEFT)
        x = x.astype(mx.float32)
        if ".lora_" not in path:
            replaced[path] = x
            continue
        module, part = path.removesuffix(".weight").rsplit(".", 1)
        if part == "lora_magnitude_vector":
            low[module + ".m"] = x
            continue
        r = pattern(adapter["rank_pattern"], module, adapter["r"])
        alpha = pattern(adapter["alpha_pattern"], module, adapter["lora_alpha"])
        if part.endswith("A"):
            low[module + ".lora_a"] = mx.pad(x.T, [(0, 0), (0, rank - r)])
        else:
            scale = alpha / (r ** 0.5 if adapter["use_rslora"] else r)
            low[module + ".lora_b"] = mx.pad(scale * x.T, [(0, rank - r), (0, 0)])
    keys = sorted({k.rsplit(".", 1)[0] for k in low})
    config = lora(kind="dora" if adapter["use_dora"] else "lora", rank=rank, scale=1.0, keys=keys)
    return config, low, replaced


def adapted(config, weights, adapter, tensors):
    if "peft_type" in adapter:
        adapter, tensors, replaced = mlx_twin(tensors, adapter)
        weights = weights | replaced
    model = dump.load(config, weights)
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "adapter_config.json").write_text(json.dumps(adapter))
        mx.save_safetensors(folder + "/adapters.safetensors", tensors)
        load_adapters(model, folder)
        mx.eval(model.parameters())
    return model.eval() or model


def run(model, prompt):
    whole = model(mx.array([prompt]), cache=make_prompt_cache(model))[0, -1]
    cache = make_prompt_cache(model)
    for token in prompt:
        step = model(mx.array([[token]]), cache=cache)[0, -1]
    ids, gaps = [], []
    for token, logprobs in generate_step(mx.array(prompt), model, max_tokens=GREEDY):
        second, best = mx.sort(logprobs.astype(mx.float32))[-2:].tolist()
        ids.append(token), gaps.append(round(best - second, 4))
    return {"last": dump.numbers(whole), "steps": dump.numbers(step), "greedy": ids, "gaps": gaps}


def write(case, out):
    config, adapter, dtype = (*CASES[case], "float32")[:3]
    rng = random.Random(case)
    prompt = [rng.randrange(config["vocab_size"]) for _ in range(PROMPT_LENGTH)]
    stored, exact, shapes, kinds = dump.make_weights(config)
    plain = {k: v for k, v in config.items() if k != "quantization"}
    is_peft = "peft_type" in adapter
    names = peft_shapes(shapes, adapter) if is_peft else mlx_shapes(dump.load(config, stored), adapter)
    tensors = {name: draw(name, shape, dtype) for name, shape in sorted(names.items())}
    expected = {"mlx_lm_version": mlx_lm.__version__, "mlx_version": mx.__version__, "config": config,
                "dtype": config["torch_dtype"], "parameters": shapes, "quantized": kinds, "adapter_config": adapter,
                "adapter_file": "adapter_model.safetensors" if is_peft else "adapters.safetensors",
                "adapter_dtype": dtype, "adapter": {name: list(x.shape) for name, x in tensors.items()},
                "prompt": prompt}
    wide = {name: x.astype(mx.float32) for name, x in tensors.items()}
    expected["exact"] = run(adapted(plain, exact, adapter, wide), prompt)
    base = run(dump.load(plain, exact), prompt)
    own = run(adapted(config, stored, adapter, tensors), prompt)
    difference = lambda a, b: mx.abs(mx.array(a["last"]) - mx.array(b["last"])).max().item()
    if difference(own, expected["exact"]) > 1e-5:
        expected["mlx"] = own
    out.mkdir(parents=True, exist_ok=True)
    compact = lambda v: json.dumps(v, separators=(",", ":"))
    path = out / f"{case}.json"
    path.write_text("{\n" + ",\n".join(f'"{k}": {compact(v)}' for k, v in expected.items()) + "\n}\n")
    print(f"{case}: {len(tensors)} tensors; adapted - base {difference(expected['exact'], base):.2f}, mlx - exact "
          f"{difference(own, expected['exact']):.1e}; smallest gap {min(expected['exact']['gaps'])}; "
          f"{path.stat().st_size} bytes")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).parent / "adapters")
    ap.add_argument("--only", nargs="+", metavar="CASE", choices=CASES, default=list(CASES))
    args = ap.parse_args()
    for case in args.only:
        write(case, args.out)


if __name__ == "__main__":
    main()
