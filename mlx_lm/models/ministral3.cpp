// Ministral 3: Llama whose queries grow with their position past the length that it was first trained for.
// Source: mlx_lm/models/ministral3.py of mlx-lm 0.32. Keys follow Hugging Face's Ministral3Config.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim.

#include <cmath>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}),
        scaling_beta(rope_field(c).get<float>("llama_4_scaling_beta")),
        original_length(rope_field(c).get_size("original_max_position_embeddings")) {
    read_layer_types(c);
  }
  static ConfigReader rope_field(const ConfigReader& c) { return c.sub("rope_parameters"); }

  float scaling_beta;
  int original_length;
};

// What multiplies the queries of a step; nothing where it is 1 for all of them. Shapes: (1, L, 1, 1).
std::optional<mx::array> query_scales(const ops::Runs& runs, float beta, int original_length) {
  std::vector<float> scales;
  bool any = false;
  for (const auto& run : runs) {
    for (int i = 0; i < run.tokens; ++i) {
      const int lengths = (run.position + i) / original_length;
      any |= lengths > 0;
      scales.push_back(1 + beta * std::log(1 + float(lengths)));
    }
  }
  if (!any) return std::nullopt;
  return mx::array(scales.begin(), {1, int(scales.size()), 1, 1}, mx::float32);
}

class Attention {
 public:
  Attention(const Config& c, const nn::Weights& w, int window)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        window_(window),
        original_length_(c.original_length),
        scale_(1.f / std::sqrt(float(c.head_dim))),
        beta_(c.scaling_beta),
        q_proj_(w / "q_proj", c.hidden_size, heads_ * c.head_dim),
        k_proj_(w / "k_proj", c.hidden_size, kv_heads_ * c.head_dim),
        v_proj_(w / "v_proj", c.hidden_size, kv_heads_ * c.head_dim),
        o_proj_(w / "o_proj", heads_ * c.head_dim, c.hidden_size),
        rope_(c.rope, c.rope_scaling) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto [q, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    q = nn::split_heads(q, heads_);     // (B, L, H, D)
    k = nn::split_heads(k, kv_heads_);  // (B, L, K, D)
    v = nn::split_heads(v, kv_heads_);  // (B, L, K, D)
    if (const auto scales = query_scales(cache.runs(x.shape(1)), beta_, original_length_)) {
      q = q * mx::astype(*scales, q.dtype());
    }
    return o_proj_(nn::merge_heads(nn::attend(q, k, v, rope_, cache, scale_, window_)));
  }

 private:
  int heads_, kv_heads_, window_, original_length_;
  float scale_, beta_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::Rope rope_;
};

struct TransformerBlock : nn::TransformerBlock<Attention> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<Attention>(w, c.hidden_size, c.rms_norm_eps,
                                        Attention(c, w / "self_attn", c.window(layer)),
                                        nn::MLP(w / "mlp", c.hidden_size, c.intermediate_size)) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(ministral3, Model, "ministral3");

}  // namespace mlx_lm::models
