// Qwen 2 and 2.5: Llama with biases on the query, key and value projections.
// Source: mlx_lm/models/qwen2.py of mlx-lm 0.32. Keys follow Hugging Face's Qwen2Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, {.rope_theta = 1000000.f, .tie_word_embeddings = true}) {}

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = true;
    return o;
  }
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(qwen2, Model, "qwen2");

}  // namespace mlx_lm::models
