// Gemma 4 of the checkpoints that also see and hear, the language model alone.
// Source: mlx_lm/models/gemma4.py of mlx-lm 0.32.

#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  TextPart text(config, w);
  // The size of the whole configuration, where there is one, counts the tokens that stand for images as well.
  if (config.has("vocab_size")) text.set("vocab_size", config.json().at("vocab_size"));
  text.set_default("vocab_size", 262144);
  text.set_default("num_attention_heads", 8);
  text.set_default("num_key_value_heads", 1);
  return text.make("gemma4_text");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(gemma4, &make, "gemma4", "gemma4_unified");

}  // namespace mlx_lm::models
