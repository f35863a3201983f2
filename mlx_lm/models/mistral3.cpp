// Mistral 3 and Llava, the language model alone: Ministral 3 or Llama.
// Source: mlx_lm/models/mistral3.py of mlx-lm 0.32.

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  TextPart text(config, w);
  text.set_default("tie_word_embeddings", false);
  const auto type = text.config.get<std::string>("model_type", "llama");
  if (type == "mistral4") {
    fail<UnsupportedModel>("[config] {}: model_type: expected ministral3, llama or mistral, found {}",
                           text.config.where(), type);
  }
  return text.make(type == "ministral3" ? type : "llama");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(mistral3, &make, "mistral3", "llava");

}  // namespace mlx_lm::models
