// GLM 4 (2024) and GLM-Edge: Llama with rotary positions in pairs.
// Source: mlx_lm/models/glm.py of mlx-lm 0.32. Keys follow Hugging Face's GlmConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        attention_bias(c.get<bool>("attention_bias", false)) {
    rope.traditional = true;
    rope_scaling.reset();
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = attention_bias;
    return o;
  }

  bool attention_bias;
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(glm, Model, "glm");

}  // namespace mlx_lm::models
