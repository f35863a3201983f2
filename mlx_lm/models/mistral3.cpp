// Mistral 3 and Llava, the language model alone: Ministral 3, Mistral 4 or Llama.
// Source: mlx_lm/models/mistral3.py of mlx-lm 0.32.

#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  TextPart text(config, w);
  text.set_default("tie_word_embeddings", false);
  const auto type = text.config.get<std::string>("model_type", "llama");
  return text.make(type == "ministral3" || type == "mistral4" ? type : "llama");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(mistral3, &make, "mistral3", "llava");

}  // namespace mlx_lm::models
