// Granite 3: Llama with factors on the token vectors, the scores, each block's output and the logits.
// Source: mlx_lm/models/granite.py of mlx-lm 0.32. Keys follow Hugging Face's GraniteConfig.

#include <cmath>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}),
        attention_multiplier(c.get<float>("attention_multiplier")),
        attention_bias(c.get<bool>("attention_bias")),
        mlp_bias(c.get<bool>("mlp_bias")) {
    embedding_multiplier = c.get<float>("embedding_multiplier");
    scale_residuals(c, "residual_multiplier", c.get<float>("residual_multiplier"));
    output_multiplier = 1 / c.get<float>("logits_scaling");
    if (!std::isfinite(output_multiplier)) {
      fail<ConfigError>("[config] {}: logits_scaling: expected a number other than 0, found 0", c.where());
    }
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.scale = attention_multiplier;
    o.qkv_bias = o.out_bias = attention_bias;
    return o;
  }

  float attention_multiplier;
  bool attention_bias, mlp_bias;
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(granite, Model, "granite");

}  // namespace mlx_lm::models
