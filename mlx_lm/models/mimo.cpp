// MiMo: Llama with biases on the query, key and value projections.
// Source: mlx_lm/models/mimo.py of mlx-lm 0.32. Keys follow the MiMoConfig of its checkpoints.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = false}) {
    if (!c.has("max_position_embeddings")) rope.max_position_embeddings = 32768;
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = true;
    return o;
  }
};

struct Model final : DecoderModel<Config, nn::PreNormBlock> {
  Model(const ConfigReader& reader, const nn::Weights& w) : DecoderModel(reader, w) {
    (w / "model" / "mtp_layers").ignore("");  // they draft tokens
  }
};

}  // namespace

MLX_LM_ARCHITECTURE(mimo, Model, "mimo");

}  // namespace mlx_lm::models
