// LFM 2 VL, the language model alone: LFM 2.
// Source: mlx_lm/models/lfm2-vl.py of mlx-lm 0.32, which does not turn the convolutions of a published checkpoint, as
// this does.

#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  return TextPart(config, w).make("lfm2");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(lfm2_vl, &make, "lfm2-vl");

}  // namespace mlx_lm::models
