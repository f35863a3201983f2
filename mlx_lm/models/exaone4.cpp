// EXAONE 4: norms after both halves of a block and over each head; layers that see all know no positions.
// Source: mlx_lm/models/exaone4.py of mlx-lm 0.32. Keys follow Hugging Face's Exaone4Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        pattern(c.get<std::string>("sliding_window_pattern", "")) {
    if (pattern.empty()) return;
    const int sliding_window = c.get_size("sliding_window");
    for (int i = 0; i < num_hidden_layers; ++i) {
      windows.push_back(pattern[i % pattern.size()] == 'L' ? sliding_window : 0);
    }
  }

  nn::GroupedAttention::Options attention(int layer) const {
    nn::GroupedAttention::Options o(*this);
    o.window = window(layer);
    if (!pattern.empty() && o.window == 0) o.rope.reset();
    o.qk_norm = nn::HeadNorm::Kind::head;
    return o;
  }

  std::string pattern;  // a letter for each layer, over and over: L slides, G sees all; none: all see all
};

using Model = DecoderModel<Config, nn::PostNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(exaone4, Model, "exaone4");

}  // namespace mlx_lm::models
