// OLMo 2: norms after both halves of a block, and over all queries and all keys.
// Source: mlx_lm/models/olmo2.py of mlx-lm 0.32. Keys follow Hugging Face's Olmo2Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        attention_bias(c.get<bool>("attention_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)) {}

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = o.out_bias = attention_bias;
    o.qk_norm = nn::HeadNorm::Kind::full;
    return o;
  }

  bool attention_bias, mlp_bias;
};

using Model = DecoderModel<Config, nn::PostNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(olmo2, Model, "olmo2");

}  // namespace mlx_lm::models
