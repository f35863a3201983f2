// Pixtral, the language model alone: Llama.
// Source: mlx_lm/models/pixtral.py of mlx-lm 0.32.

#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  TextPart text(config, w);
  text.set("tie_word_embeddings", false);
  text.set_default("num_attention_heads", 32);
  return text.make("llama");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(pixtral, &make, "pixtral");

}  // namespace mlx_lm::models
