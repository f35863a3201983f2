// Kimi K2.5, the language model alone: Kimi K2.
// Source: mlx_lm/models/kimi_k25.py of mlx-lm 0.32.

#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  return TextPart(config, w).make("deepseek_v3");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(kimi_k25, &make, "kimi_k25");

}  // namespace mlx_lm::models
