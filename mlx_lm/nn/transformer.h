// What most decoders have in common around their attention.
#pragma once

#include <optional>
#include <utility>

#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/nn/layers.h"

namespace mlx_lm::nn {

// down(silu(gate(x)) * up(x)). Takes gate_proj, up_proj, down_proj.
class MLP {
 public:
  MLP(const Weights& w, int hidden_size, int intermediate_size, bool bias = false);
  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x) const;

 private:
  Linear gate_proj_, up_proj_, down_proj_;
};

// Pre-norm: h = x + attention(norm(x)), then h + mlp(norm(h)). Takes input_layernorm and post_attention_layernorm.
template <class Attention, class FeedForward = MLP>
class TransformerBlock {
 public:
  TransformerBlock(const Weights& w, int hidden_size, float eps, Attention attention, FeedForward mlp)
      : self_attn_(std::move(attention)),
        mlp_(std::move(mlp)),
        input_layernorm_(w / "input_layernorm", hidden_size, eps),
        post_attention_layernorm_(w / "post_attention_layernorm", hidden_size, eps) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto h = ops::residual_add(x, self_attn_(input_layernorm_(x), cache));
    return ops::residual_add(h, mlp_(post_attention_layernorm_(h)));
  }

 private:
  Attention self_attn_;
  FeedForward mlp_;
  RMSNorm input_layernorm_, post_attention_layernorm_;
};

// The output layer: a matrix of its own, or the embedding's. Takes lm_head unless tied; a tied checkpoint may carry one
// all the same, which is ignored.
class LMHead {
 public:
  LMHead(const Weights& w, bool tied, int hidden_size, int vocab_size);
  // (B, L, E) -> logits (B, L, V)
  mx::array operator()(const mx::array& h, const Embedding& embed_tokens) const;

 private:
  std::optional<Linear> lm_head_;
};

}  // namespace mlx_lm::nn
