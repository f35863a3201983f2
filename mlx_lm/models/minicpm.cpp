// MiniCPM: Llama with factors on the token vectors, each block's output and what the output layer reads.
// Source: mlx_lm/models/minicpm.py of mlx-lm 0.32. Keys follow the MiniCPMConfig of its checkpoints.

#include <cmath>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, {.rope_theta = 1000000.f, .tie_word_embeddings = false}) {
    embedding_multiplier = c.get<float>("scale_emb");
    scale_residuals(c, "scale_depth", c.get<float>("scale_depth") / std::sqrt(float(num_hidden_layers)));
    output_multiplier = float(c.get_size("dim_model_base")) / float(hidden_size);
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    return o;
  }
};

struct Model final : DecoderModel<Config, nn::PreNormBlock> {
  Model(const ConfigReader& reader, const nn::Weights& w) : DecoderModel(with_output_layer(reader, w), w) {}

  // Checkpoints may lack it without saying so.
  static ConfigReader with_output_layer(const ConfigReader& c, const nn::Weights& w) {
    if (w.has("lm_head.weight")) return c;
    auto object = c.json();
    object["tie_word_embeddings"] = true;
    return ConfigReader(std::move(object), c.where());
  }
};

}  // namespace

MLX_LM_ARCHITECTURE(minicpm, Model, "minicpm");

}  // namespace mlx_lm::models
