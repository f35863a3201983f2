// Ministral 3: Llama whose queries grow with their position past the length that it was first trained for.
// Source: mlx_lm/models/ministral3.py of mlx-lm 0.32. Keys follow Hugging Face's Ministral3Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}),
        growth{.beta = rope_field(c).get<float>("llama_4_scaling_beta"),
               .length = rope_field(c).get_size("original_max_position_embeddings")} {
    read_layer_types(c);
  }
  static ConfigReader rope_field(const ConfigReader& c) { return c.sub("rope_parameters"); }

  nn::GroupedAttention::Options attention(int layer) const {
    nn::GroupedAttention::Options o(*this);
    o.window = window(layer);
    o.query_growth = growth;
    return o;
  }

  nn::QueryGrowth growth;
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(ministral3, Model, "ministral3");

}  // namespace mlx_lm::models
