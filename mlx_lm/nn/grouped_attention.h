// Attention as most decoders have it: projections, norms of the heads, rotary positions, grouped queries.
#pragma once

#include <optional>

#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/layers.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::nn {

// How queries or keys are normed before they rotate.
class HeadNorm {
 public:
  enum class Kind {
    none,
    head,   // RMS over each head; all have one weight, (D)
    full,   // RMS over all heads together, (heads * D)
    layer,  // layer norm over each head, with a weight of its own and no bias, (heads, D)
  };
  HeadNorm(const Weights& w, Kind kind, int heads, int head_dim, float eps);
  // (B, L, heads * D) -> (B, L, heads, D)
  mx::array operator()(const mx::array& x) const;

 private:
  Kind kind_;
  int heads_;
  float eps_;
  std::optional<mx::array> weight_;
};

// Takes q_proj, k_proj, v_proj (or qkv_proj, which is them one after another), the output layer, and, if there are such
// norms, q_norm and k_norm.
class GroupedAttention {
 public:
  struct Options {
    // What the configuration says, rotary positions included.
    explicit Options(const DecoderConfig& c);

    int hidden_size, heads, kv_heads, head_dim;
    std::optional<Rope> rope;  // absent: no positions (NoPE)
    float scale;               // multiplies the scores
    int window = 0;            // how many tokens back a token sees, itself included; 0 for all
    bool qkv_bias = false, out_bias = false;
    HeadNorm::Kind qk_norm = HeadNorm::Kind::none;
    float eps;  // of the norms
    const char* out = "o_proj";
  };
  GroupedAttention(const Weights& w, const Options& options);

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const;

 private:
  static const Weights& split(const Weights& w, const Options& options);

  int kv_heads_, window_;
  float scale_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  HeadNorm q_norm_, k_norm_;
  std::optional<Rope> rope_;
};

// The block of Llama and its like. Config: derives from DecoderConfig, has attention(layer), which gives Options, and
// perhaps mlp_bias.
struct PreNormBlock : TransformerBlock<GroupedAttention> {
  template <class Config>
  PreNormBlock(const Config& c, const Weights& w, int layer)
      : TransformerBlock(w, c.hidden_size, c.rms_norm_eps, GroupedAttention(w / "self_attn", c.attention(layer)),
                         MLP(w / "mlp", c.hidden_size, c.intermediate_size, mlp_bias(c))) {}

 private:
  template <class Config>
  static bool mlp_bias(const Config& c) {
    if constexpr (requires { c.mlp_bias; }) {
      return c.mlp_bias;
    } else {
      return false;
    }
  }
};

}  // namespace mlx_lm::nn
