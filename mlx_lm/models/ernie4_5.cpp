// ERNIE 4.5, dense: Llama with rotary positions in pairs.
// Source: mlx_lm/models/ernie4_5.py of mlx-lm 0.32. Keys follow Hugging Face's Ernie4_5Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}), mlp_bias(c.get<bool>("use_bias")) {
    rope.traditional = true;
    rope_scaling.reset();
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = o.out_bias = mlp_bias;
    return o;
  }

  bool mlp_bias;  // and that of attention
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(ernie4_5, Model, "ernie4_5");

}  // namespace mlx_lm::models
