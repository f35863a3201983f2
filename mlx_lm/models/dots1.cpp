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

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qk_norm = nn::HeadNorm::Kind::head;
    return o;
  }

  nn::FeedForward feed_forward(const nn::Weights& layer, int i) const {
    const auto w = layer / "mlp";
    // mlx-lm leaves the stacked experts under their published name.
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
      w.rename(fmt::format("experts.{}", name), fmt::format("switch_mlp.{}", name));
    }
    return nn::deepseek_feed_forward(w, experts, i);
  }

  nn::DeepseekMoEConfig experts;
};

using Model = DecoderModel<Config, nn::MixtureBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(dots1, Model, "dots1");

}  // namespace mlx_lm::models
