#!/usr/bin/env python3
"""A model with the shape of Llama 3.2 1B and random 4-bit weights, in the formats of mlx-lm.cpp and its peers.

  make_model.py [--tokens SmolLM2-135M-Instruct.Q4_1.gguf] [--work DIR]

Makes in DIR (default ~/.cache/mlx-lm.cpp/peers, 2.2 GB):
  llama-1b/            Hugging Face folder, MLX's affine packing: 4 bits, groups of 64, embedding too (4.5 bits a weight)
  llama-1b.q4_0.gguf   every matrix Q4_0 (4.5 bits a weight)
  llama-1b.gguf        every matrix Q4_1 (5 bits a weight)
Speed does not depend on the values; they only have to keep the activations finite, so the weights are uniform with a
standard deviation of 0.02, the norms 1. The token texts are those of the GGUF --tokens, filled up to the vocabulary.
Needs: pip install numpy gguf
"""
import argparse
import json
import os

import gguf
import numpy as np

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB = 2048, 16, 32, 8, 64, 8192, 128256
CONTEXT, ROPE_THETA, EPS = 131072, 500000.0, 1e-5
SCALE = 0.02 / np.sqrt((16 * 16 - 1) / 12)  # sixteen equal steps have this standard deviation

# (name in the folder, name in the GGUF, rows, columns); a norm has no columns
LAYER = [("self_attn.q_proj", "attn_q", HEADS * HEAD_DIM, HIDDEN), ("self_attn.k_proj", "attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
         ("self_attn.v_proj", "attn_v", KV_HEADS * HEAD_DIM, HIDDEN), ("self_attn.o_proj", "attn_output", HIDDEN, HEADS * HEAD_DIM),
         ("mlp.gate_proj", "ffn_gate", FFN, HIDDEN), ("mlp.up_proj", "ffn_up", FFN, HIDDEN), ("mlp.down_proj", "ffn_down", HIDDEN, FFN),
         ("input_layernorm", "attn_norm", HIDDEN, 0), ("post_attention_layernorm", "ffn_norm", HIDDEN, 0)]
TENSORS = [("model.embed_tokens", "token_embd", VOCAB, HIDDEN), ("model.norm", "output_norm", HIDDEN, 0)]
TENSORS += [(f"model.layers.{i}.{hf}", f"blk.{i}.{gg}", rows, columns) for i in range(LAYERS) for hf, gg, rows, columns in LAYER]
rng = np.random.default_rng(0)


def scales(rows, groups):
    return (SCALE * rng.uniform(0.8, 1.2, (rows, groups))).astype(np.float16)


def random_bytes(*shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def write_safetensors(path):
    """Header first, then one tensor after another, so that no more than one is in memory."""
    header, end = {"__metadata__": {"format": "mlx"}}, 0
    for name, _, rows, columns in TENSORS:
        parts = [("weight", "U32", [rows, columns // 8], 4), ("scales", "F16", [rows, columns // 64], 2),
                 ("biases", "F16", [rows, columns // 64], 2)] if columns else [("weight", "F16", [rows], 2)]
        for part, kind, shape, size in parts:
            begin, end = end, end + int(np.prod(shape)) * size
            header[f"{name}.{part}"] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for _, _, rows, columns in TENSORS:
            if columns:
                s = scales(rows, columns // 64)
                f.write(random_bytes(rows, columns // 2).data)
                f.write(s.data)
                f.write((s * np.float16(-7.5)).data)
            else:
                f.write(np.ones(rows, np.float16).data)


def write_folder(out, tokens, merges, special):
    os.makedirs(out, exist_ok=True)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "float16", "hidden_size": HIDDEN,
              "num_hidden_layers": LAYERS, "intermediate_size": FFN, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
              "head_dim": HEAD_DIM, "rms_norm_eps": EPS, "rope_theta": ROPE_THETA, "vocab_size": VOCAB,
              "max_position_embeddings": CONTEXT, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
              "hidden_act": "silu", "rope_scaling": None, "attention_bias": False, "mlp_bias": False,
              "quantization": {"group_size": 64, "bits": 4, "mode": "affine"}}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": byte_level,
                 "post_processor": None, "decoder": byte_level,
                 "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                                   "normalized": False, "special": True} for i in special],
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                           "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}}
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": tokens[1], "eos_token": tokens[2],
             "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False}
    for name, value in (("config", config), ("tokenizer", tokenizer), ("tokenizer_config", names)):
        with open(os.path.join(out, f"{name}.json"), "w") as f:
            json.dump(value, f, indent=1, ensure_ascii=False)
    write_safetensors(os.path.join(out, "model.safetensors"))


def blocks(kind, rows, columns):
    """Rows of Q4_0 blocks (scale, 16 bytes) or Q4_1 blocks (scale, minimum, 16 bytes), 32 weights each."""
    s = scales(rows, columns // 32)
    head = [s] if kind == gguf.GGMLQuantizationType.Q4_0 else [s, s * np.float16(-7.5)]
    parts = [h[..., None].view(np.uint8) for h in head] + [random_bytes(rows, columns // 32, 16)]
    return np.concatenate(parts, axis=-1).reshape(rows, -1)


def write_gguf(path, kind, tokens, types, merges):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("Llama 1B shape, random weights")
    w.add_block_count(LAYERS), w.add_context_length(CONTEXT), w.add_embedding_length(HIDDEN), w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS), w.add_head_count_kv(KV_HEADS), w.add_rope_freq_base(ROPE_THETA), w.add_layer_norm_rms_eps(EPS)
    w.add_rope_dimension_count(HEAD_DIM), w.add_vocab_size(VOCAB)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0 if kind == gguf.GGMLQuantizationType.Q4_0 else gguf.LlamaFileType.MOSTLY_Q4_1)
    w.add_tokenizer_model("gpt2"), w.add_tokenizer_pre("smollm")
    w.add_token_list(tokens), w.add_token_types(types), w.add_token_merges(merges)
    w.add_bos_token_id(1), w.add_eos_token_id(2), w.add_unk_token_id(0), w.add_pad_token_id(2)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    for _, name, rows, columns in TENSORS:
        if columns:
            width = columns // block * size
            w.add_tensor_info(f"{name}.weight", (rows, width), np.dtype(np.uint8), rows * width, raw_dtype=kind)
        else:
            w.add_tensor_info(f"{name}.weight", (rows,), np.dtype(np.float32), rows * 4)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_ti_data_to_file()
    for _, _, rows, columns in TENSORS:
        w.write_tensor_data(blocks(kind, rows, columns) if columns else np.ones(rows, np.float32))
    w.close()


def main():
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mlx-lm.cpp")
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--tokens", default=os.path.join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    ap.add_argument("--work", default=os.path.join(cache, "peers"))
    args = ap.parse_args()
    fields = gguf.GGUFReader(args.tokens).fields
    tokens, types, merges = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "token_type", "merges"))
    special = [i for i, t in enumerate(types) if t == gguf.TokenType.CONTROL]
    missing = range(len(tokens), VOCAB)
    tokens, types = tokens + [f"<unused{i}>" for i in missing], types + [int(gguf.TokenType.UNUSED)] * len(missing)
    out = os.path.join(args.work, "llama-1b")
    write_folder(out, tokens, merges, special)
    write_gguf(f"{out}.q4_0.gguf", gguf.GGMLQuantizationType.Q4_0, tokens, types, merges)
    write_gguf(f"{out}.gguf", gguf.GGMLQuantizationType.Q4_1, tokens, types, merges)


if __name__ == "__main__":
    main()
