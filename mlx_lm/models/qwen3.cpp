// Qwen 3: Llama with a norm over each head of the queries and of the keys.
// Source: mlx_lm/models/qwen3.py of mlx-lm 0.32. Keys follow Hugging Face's Qwen3Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}) {
    stores_inv_freq = false;
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qk_norm = nn::HeadNorm::Kind::head;
    return o;
  }
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(qwen3, Model, "qwen3");

}  // namespace mlx_lm::models
