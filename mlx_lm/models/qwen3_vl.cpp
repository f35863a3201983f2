// Qwen 3 VL, the language model alone: Qwen 3.
// Source: mlx_lm/models/qwen3_vl.py of mlx-lm 0.32.

#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  return TextPart(config, w).make("qwen3");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(qwen3_vl, &make, "qwen3_vl");

}  // namespace mlx_lm::models
