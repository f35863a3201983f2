// Seed-OSS: Llama with biases of their own for the output of attention.
// Source: mlx_lm/models/seed_oss.py of mlx-lm 0.32. Keys follow Hugging Face's SeedOssConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        attention_bias(c.get<bool>("attention_bias", false)),
        attention_out_bias(c.get<bool>("attention_out_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)) {}

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = attention_bias;
    o.out_bias = attention_out_bias;
    return o;
  }

  bool attention_bias, attention_out_bias, mlp_bias;
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(seed_oss, Model, "seed_oss");

}  // namespace mlx_lm::models
