// What the Gemma models have in common.
#pragma once

#include <utility>

#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/nn/layers.h"

namespace mlx_lm::nn {

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
template <class Attention>
class GemmaBlock {
 public:
  GemmaBlock(const Weights& w, int hidden_size, float eps, Attention attention, GegluMLP mlp)
      : self_attn_(std::move(attention)),
        mlp_(std::move(mlp)),
        input_layernorm_(w / "input_layernorm", hidden_size, eps, 1.f),
        post_attention_layernorm_(w / "post_attention_layernorm", hidden_size, eps, 1.f),
        pre_feedforward_layernorm_(w / "pre_feedforward_layernorm", hidden_size, eps, 1.f),
        post_feedforward_layernorm_(w / "post_feedforward_layernorm", hidden_size, eps, 1.f) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    const auto h = clipped_add(x, post_attention_layernorm_(self_attn_(input_layernorm_(x), cache)));
    return clipped_add(h, post_feedforward_layernorm_(mlp_(pre_feedforward_layernorm_(h))));
  }

 private:
  Attention self_attn_;
  GegluMLP mlp_;
  RMSNorm input_layernorm_, post_attention_layernorm_, pre_feedforward_layernorm_, post_feedforward_layernorm_;
};

}  // namespace mlx_lm::nn
