// Recurrent layers by MLX's own operations: for recurrent.cpp only.
#pragma once

#include "mlx_lm/ops/recurrent.h"

namespace mlx_lm::ops {

mx::array mlx_convolution(const std::vector<Columns>& x, const Convolution& how, const StateRuns& runs,
                          const std::optional<ConvolutionGates>& gates);
std::pair<mx::array, mx::array> mlx_decays(const Columns& a, const std::optional<Columns>& b, const Decay& how);
mx::array mlx_linear_attention(const Columns& q, const Columns& k, const Columns& v, const mx::array& decay,
                               const mx::array& write, const LinearAttention& how, const StateRuns& runs);
mx::array mlx_selective_scan(const mx::array& x, const mx::array& dt, const Columns& b, const Columns& c,
                             const mx::array& rate, const mx::array& skip, const StateRuns& runs);
mx::array mlx_gated_rms_norm(const mx::array& x, const Columns& gate, const mx::array& weight, float eps, int size,
                             bool gate_first);

}  // namespace mlx_lm::ops
