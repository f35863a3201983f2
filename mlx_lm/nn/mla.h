// Multi-head latent attention (DeepSeek's MLA): all heads share one latent row for each token, from which keys and
// values could be made, and one rotated row, and only these two are remembered.
#pragma once

#include <optional>

#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/layers.h"
#include "mlx_lm/nn/rope.h"
#include "mlx_lm/ops/experts.h"

namespace mlx_lm::nn {

// Keys follow Hugging Face's DeepseekV3Config.
struct MLAConfig {
  // Errors: ConfigError that names the field.
  MLAConfig(const ConfigReader& c, const DecoderConfig& decoder);

  int hidden_size, heads;
  int q_lora_rank;  // 0: queries are one product of the hidden state
  int kv_lora_rank, qk_rope_head_dim, v_head_dim, qk_nope_head_dim;
  bool attention_bias;
  float norm_eps = 1e-6f;
  float scale;  // multiplies the scores: with mscale_all_dim, if rope_scaling has it
  Rope rope;
  std::optional<QueryGrowth> query_growth;
};

// Queries, split into what meets the latent rows and what meets the rotated ones. Takes q_proj, or q_a_proj,
// q_a_layernorm and q_b_proj; kv_a_proj_with_mqa, kv_a_layernorm; embed_q and unembed_out, or kv_b_proj, which is made
// into both; o_proj. Source: mlx-lm's models/deepseek_v3.py and models/mla.py.
class MLA {
 public:
  MLA(const Weights& w, const MLAConfig& c);
  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const { return attend(begin(x, cache)); }

  // The same in two halves, for those who choose what a query sees: first what is remembered, then who is attended.
  struct Step {
    mx::array low;         // (B, L, q_lora_rank): what queries are made of, or x
    mx::array nope, rope;  // (B, L, H, N), (B, L, H, P): queries, the second rotated
    ops::KVView seen;      // latent and rotated rows
  };
  Step begin(const mx::array& x, cache::KVCache& cache) const;
  mx::array attend(const Step& step) const;
  // What meets the latent rows. Shapes: (B, L, H, N) -> (B, L, H, R).
  mx::array absorbed(const mx::array& nope) const { return ops::head_matmul(nope, embed_q_); }
  // From sums of latent rows to the output. Shapes: (B, L, H, R) -> (B, L, E).
  mx::array finish(const mx::array& sums) const;
  float scale() const { return c_.scale; }

 private:
  static const Weights& prepared(const Weights& w, const MLAConfig& c);
  // Attends to keys and values made for every head. Shapes: -> (B, L, H, V).
  mx::array expanded(const Step& step) const;

  MLAConfig c_;
  std::optional<Linear> q_a_proj_;
  std::optional<RMSNorm> q_a_layernorm_;
  Linear q_nope_, q_rope_, kv_latent_, kv_rope_;
  RMSNorm kv_a_layernorm_;
  ops::ExpertMatrices embed_q_;      // (H, R, N): of a query what meets the latent rows
  ops::ExpertMatrices unembed_out_;  // (H, V, R): of latent rows their values
  ops::ExpertMatrices keys_;         // (H, N, R): of latent rows their keys
  Linear o_proj_;
};

}  // namespace mlx_lm::nn
