// TeleChat 3: Llama that says its own defaults.
// Source: mlx_lm/models/telechat3.py of mlx-lm 0.32. Keys follow the configuration of its checkpoints.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        attention_bias(c.get<bool>("attention_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)) {}

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = o.out_bias = attention_bias;
    return o;
  }

  bool attention_bias, mlp_bias;
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(telechat3, Model, "telechat3");

}  // namespace mlx_lm::models
