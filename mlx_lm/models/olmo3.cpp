// OLMo 3: OLMo 2, most of whose layers slide; those that see all may have stretched positions.
// Source: mlx_lm/models/olmo3.py of mlx-lm 0.32. Keys follow Hugging Face's Olmo3Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        attention_bias(c.get<bool>("attention_bias", false)) {
    read_layer_types(c);
    const int sliding_window = c.get_size("sliding_window");
    if (!windows.empty()) return;
    for (int i = 0; i < num_hidden_layers; ++i) windows.push_back((i + 1) % 4 == 0 ? 0 : sliding_window);
  }

  nn::GroupedAttention::Options attention(int layer) const {
    nn::GroupedAttention::Options o(*this);
    o.window = window(layer);
    if (o.window > 0) o.rope.emplace(rope, std::nullopt);
    o.qkv_bias = o.out_bias = attention_bias;
    o.qk_norm = nn::HeadNorm::Kind::full;
    return o;
  }

  bool attention_bias;
};

using Model = DecoderModel<Config, nn::PostNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(olmo3, Model, "olmo3");

}  // namespace mlx_lm::models
