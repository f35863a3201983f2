// What the Gemma models have in common.
#pragma once

#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/layers.h"

namespace mlx_lm::nn {

// Embeddings are scaled by the root of their width, norms stored less 1, and the output layer is the embedding's.
struct GemmaConfig : DecoderConfig {
  GemmaConfig(const ConfigReader& c, const Defaults& defaults);
  RMSNorm norm(const Weights& w) const { return {w, hidden_size, rms_norm_eps, 1.f}; }
};

// down(gelu(gate(x)) * up(x)). Takes gate_proj, up_proj, down_proj.
class GegluMLP {
 public:
  GegluMLP(const Weights& w, int hidden_size, int intermediate_size, ops::Gelu kind = ops::Gelu::tanh);
  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x) const;

 private:
  ops::Gelu kind_;
  Linear gate_proj_, up_proj_, down_proj_;
};

// a + b within what the type holds: Gemma's residual stream grows past float16.
mx::array clipped_add(const mx::array& a, const mx::array& b);

// Norms on both sides: h = x + norm(attention(norm(x))), then h + norm(mlp(norm(h))). Takes input_layernorm,
// post_attention_layernorm, pre_feedforward_layernorm and post_feedforward_layernorm, all stored less 1.
// Config: derives from GemmaConfig, and has attention(layer), which gives GroupedAttention's Options.
class GemmaBlock {
 public:
  template <class Config>
  GemmaBlock(const Config& c, const Weights& w, int layer)
      : self_attn_(w / "self_attn", c.attention(layer)),
        mlp_(w / "mlp", c.hidden_size, c.intermediate_size),
        input_layernorm_(c.norm(w / "input_layernorm")),
        post_attention_layernorm_(c.norm(w / "post_attention_layernorm")),
        pre_feedforward_layernorm_(c.norm(w / "pre_feedforward_layernorm")),
        post_feedforward_layernorm_(c.norm(w / "post_feedforward_layernorm")) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    const auto h = clipped_add(x, post_attention_layernorm_(self_attn_(input_layernorm_(x), cache)));
    return clipped_add(h, post_feedforward_layernorm_(mlp_(pre_feedforward_layernorm_(h))));
  }

 private:
  GroupedAttention self_attn_;
  GegluMLP mlp_;
  RMSNorm input_layernorm_, post_attention_layernorm_, pre_feedforward_layernorm_, post_feedforward_layernorm_;
};

}  // namespace mlx_lm::nn
