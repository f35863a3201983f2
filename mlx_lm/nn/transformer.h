// What most decoders have in common around their attention.
#pragma once

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/nn/layers.h"
#include "mlx_lm/ops/elementwise.h"

namespace mlx_lm::nn {

// down(silu(gate(x)) * up(x)). Takes gate_proj and up_proj (or gate_up_proj, one after the other), and down_proj.
class MLP {
 public:
  MLP(const Weights& w, int hidden_size, int intermediate_size, bool bias = false);
  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x) const;

 private:
  Linear gate_proj_, up_proj_, down_proj_;
};

// down(gelu(up(x))), under the names that a checkpoint has for them.
class GeluMLP {
 public:
  GeluMLP(const Weights& up, const Weights& down, int hidden_size, int intermediate_size, ops::Gelu kind,
          bool bias = true);
  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x) const { return down_(ops::gelu(up_(x), kind_)); }

 private:
  Linear up_, down_;
  ops::Gelu kind_;
};

// Pre-norm: h = x + attention(norm(x)), then h + mlp(norm(h)). Takes input_layernorm and post_attention_layernorm.
template <class Attention, class FeedForward = MLP, class Norm = RMSNorm>
class TransformerBlock {
 public:
  TransformerBlock(const Weights& w, int hidden_size, float eps, Attention attention, FeedForward mlp)
      : TransformerBlock(Norm(w / "input_layernorm", hidden_size, eps),
                         Norm(w / "post_attention_layernorm", hidden_size, eps), std::move(attention), std::move(mlp)) {
  }
  TransformerBlock(Norm input, Norm post_attention, Attention attention, FeedForward mlp)
      : self_attn_(std::move(attention)),
        mlp_(std::move(mlp)),
        input_layernorm_(std::move(input)),
        post_attention_layernorm_(std::move(post_attention)) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto h = ops::residual_add(x, self_attn_(input_layernorm_(x), cache));
    return ops::residual_add(h, mlp_(post_attention_layernorm_(h)));
  }

 private:
  Attention self_attn_;
  FeedForward mlp_;
  Norm input_layernorm_, post_attention_layernorm_;
};

// Attention and MLP side by side: x + attention(norm(x)) + mlp(norm(x)).
template <class Attention, class FeedForward, class Norm>
class ParallelBlock {
 public:
  ParallelBlock(Norm norm, Attention attention, FeedForward mlp)
      : input_layernorm_(std::move(norm)), self_attn_(std::move(attention)), mlp_(std::move(mlp)) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    const auto h = input_layernorm_(x);
    return ops::residual_add(ops::residual_add(x, self_attn_(h, cache)), mlp_(h));
  }

 private:
  Norm input_layernorm_;
  Attention self_attn_;
  FeedForward mlp_;
};

// Norms before or after each half, or both: h = x + after(attention(before(x))), then the same with the MLP.
template <class Attention, class FeedForward = MLP>
class SandwichBlock {
 public:
  struct Norms {
    std::optional<RMSNorm> before_attention, after_attention, before_mlp, after_mlp;
  };
  SandwichBlock(Norms norms, Attention attention, FeedForward mlp)
      : norms_(std::move(norms)), self_attn_(std::move(attention)), mlp_(std::move(mlp)) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    const auto normed = [](const auto& norm, const mx::array& x) { return norm ? (*norm)(x) : x; };
    const auto& n = norms_;
    const auto h = ops::residual_add(x, normed(n.after_attention, self_attn_(normed(n.before_attention, x), cache)));
    return ops::residual_add(h, normed(n.after_mlp, mlp_(normed(n.before_mlp, h))));
  }

 private:
  Norms norms_;
  Attention self_attn_;
  FeedForward mlp_;
};

// Where each token of a step stands. Shapes: (1, L) int32. Errors: RequestError for one at `limit` or past it.
mx::array positions_of(const ops::Runs& runs, int limit);

// Token vectors, blocks, a norm. Block: made of (config, its scope, its number), called with (B, L, E) and a cache.
// Config: derives from DecoderConfig.
template <class Block, class Norm = RMSNorm>
class Decoder {
 public:
  template <class Config>
  Decoder(const Config& c, const Weights& w)
      : embed_tokens_(w / c.names.embed_tokens, c.vocab_size, c.hidden_size),
        norm_(c.norm(w / c.names.norm)),
        learned_positions_(c.learned_positions),
        embedding_multiplier_(c.embedding_multiplier),
        output_multiplier_(c.output_multiplier) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers_.emplace_back(c, w / c.names.layers / i, i);
    if (learned_positions_ > 0) positions_.emplace(w / c.names.positions, learned_positions_, c.hidden_size);
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = scaled(embed_tokens_(tokens), embedding_multiplier_);
    if (positions_) h = h + (*positions_)(positions_of(kv(*caches[0]).runs(tokens.shape(1)), learned_positions_));
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, kv(*caches[i]));
    return scaled(norm_(h), output_multiplier_);
  }

  const Embedding& embed_tokens() const { return embed_tokens_; }

 private:
  static mx::array scaled(const mx::array& x, float factor) { return factor == 1 ? x : ops::scale(x, factor); }

  Embedding embed_tokens_;
  std::optional<Embedding> positions_;
  std::vector<Block> layers_;
  Norm norm_;
  int learned_positions_;
  float embedding_multiplier_, output_multiplier_;
};

// The output layer: a matrix of its own, or the embedding's. Takes lm_head unless tied; a tied checkpoint may carry one
// all the same, which is ignored.
class LMHead {
 public:
  LMHead(const Weights& w, bool tied, int hidden_size, int vocab_size, bool bias = false,
         std::string_view name = "lm_head");
  // (B, L, E) -> logits (B, L, V)
  mx::array operator()(const mx::array& h, const Embedding& embed_tokens) const;

 private:
  std::optional<Linear> lm_head_;
};

}  // namespace mlx_lm::nn
