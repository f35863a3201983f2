// Helium 1: Llama with rotary positions in pairs.
// Source: mlx_lm/models/helium.py of mlx-lm 0.32. Keys follow Hugging Face's HeliumConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}),
        attention_bias(c.get<bool>("attention_bias")),
        mlp_bias(c.get<bool>("mlp_bias")) {
    rope.traditional = true;
    rope_scaling.reset();
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = attention_bias;
    return o;
  }

  bool attention_bias, mlp_bias;
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(helium, Model, "helium");

}  // namespace mlx_lm::models
