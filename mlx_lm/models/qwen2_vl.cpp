// Qwen 2 VL and 2.5 VL, the language model alone: Qwen 2.
// Source: mlx_lm/models/qwen2_vl.py of mlx-lm 0.32.

#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  return TextPart(config, w).make("qwen2");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(qwen2_vl, &make, "qwen2_vl", "qwen2_5_vl");

}  // namespace mlx_lm::models
