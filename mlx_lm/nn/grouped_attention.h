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
    plain,  // RMS over each head, without a weight
    layer,  // layer norm over each head, with a weight of its own and no bias, (heads, D)
  };
  // offset: as of RMSNorm, for a norm over each head.
  HeadNorm(const Weights& w, Kind kind, int heads, int head_dim, float eps, float offset = 0.f);
  // (B, L, heads * D) -> (B, L, heads, D)
  mx::array operator()(const mx::array& x) const;

 private:
  Kind kind_;
  int heads_;
  float eps_;
  std::optional<RMSNorm> rms_;      // of the kinds head and full
  std::optional<mx::array> layer_;  // the weight of the kind layer
};

// Takes q_proj, k_proj, v_proj (or qkv_proj, which is them one after another), the output layer, and, if there are such
// norms, q_norm and k_norm.
class GroupedAttention {
 public:
  struct Options {
    // What the configuration says, rotary positions included.
    explicit Options(const DecoderConfig& c);
    // Neither positions nor norms.
    Options(int hidden_size, int heads, int kv_heads, int head_dim);

    int hidden_size, heads, kv_heads, head_dim;
    std::optional<Rope> rope;        // absent: no positions (NoPE)
    float scale;                     // multiplies the scores
    int window = 0;                  // how many tokens back a token sees, itself included; 0 for all
    float softcap = 0;               // as in AttendOptions
    std::optional<mx::array> sinks;  // the same
    std::optional<QueryGrowth> query_growth;
    bool qkv_bias = false, out_bias = false;
    HeadNorm::Kind qk_norm = HeadNorm::Kind::none;
    float eps = 0;          // of the norms
    float norm_offset = 0;  // added to their weights
    const char* out = "o_proj";
  };
  GroupedAttention(const Weights& w, const Options& options);

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const;

 private:
  static const Weights& split(const Weights& w, const Options& options);

  int kv_heads_;
  AttendOptions attend_;
  std::optional<QueryGrowth> query_growth_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  HeadNorm q_norm_, k_norm_;
  std::optional<Rope> rope_;
};

// The MLP of the blocks below. Config: derives from DecoderConfig, and perhaps has mlp_bias.
template <class Config>
MLP mlp_of(const Config& c, const Weights& w) {
  bool bias = false;
  if constexpr (requires { c.mlp_bias; }) bias = c.mlp_bias;
  return {w / "mlp", c.hidden_size, c.intermediate_size, bias};
}

// The block of Llama and its like. Config: as of mlp_of, and has attention(layer), which gives Options.
struct PreNormBlock : TransformerBlock<GroupedAttention> {
  template <class Config>
  PreNormBlock(const Config& c, const Weights& w, int layer)
      : TransformerBlock(w, c.hidden_size, c.rms_norm_eps, GroupedAttention(w / "self_attn", c.attention(layer)),
                         mlp_of(c, w)) {}
};

// The same with its norms after both halves. Takes post_attention_layernorm and post_feedforward_layernorm.
struct PostNormBlock : SandwichBlock<GroupedAttention> {
  template <class Config>
  PostNormBlock(const Config& c, const Weights& w, int layer)
      : SandwichBlock({.before_attention = {},
                       .after_attention = c.norm(w / "post_attention_layernorm"),
                       .before_mlp = {},
                       .after_mlp = c.norm(w / "post_feedforward_layernorm")},
                      GroupedAttention(w / "self_attn", c.attention(layer)), mlp_of(c, w)) {}
};

}  // namespace mlx_lm::nn
