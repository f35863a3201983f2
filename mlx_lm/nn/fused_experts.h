// Checkpoints that write the first two layers of all experts as one tensor.
#pragma once

#include <string>

#include "mlx_lm/nn/moe.h"

namespace mlx_lm::nn {

// `fused` (experts, 2 * intermediate, hidden), the gates first, and `down` become the weights of switch_mlp. Does
// nothing where there is no such tensor. Errors: WeightError for another shape.
void split_experts(const Weights& w, const ExpertShape& shape, const std::string& fused, const std::string& down);

}  // namespace mlx_lm::nn
