// dots.llm1: DeepSeek V3's experts behind grouped-query attention with a norm over each head.
// Source: mlx_lm/models/dots1.py of mlx-lm 0.32. Keys follow Hugging Face's Dots1Config.

#include <fmt/format.h>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/deepseek_moe.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}), experts(c, *this) {}

  nn::DeepseekMoEConfig experts;
};

nn::GroupedAttention attention(const Config& c, const nn::Weights& w) {
  nn::GroupedAttention::Options options(c);
  options.qk_norm = nn::HeadNorm::Kind::head;
  return {w, options};
}

nn::FeedForward feed_forward(const Config& c, const nn::Weights& w, int layer) {
  // mlx-lm leaves the stacked experts under their published name.
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    w.rename(fmt::format("experts.{}", name), fmt::format("switch_mlp.{}", name));
  }
  return nn::deepseek_feed_forward(w, c.experts, layer);
}

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward>(
            w, c.hidden_size, c.rms_norm_eps, attention(c, w / "self_attn"), feed_forward(c, w / "mlp", layer)) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(dots1, Model, "dots1");

}  // namespace mlx_lm::models
