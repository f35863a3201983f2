// Products of activations with weight matrices and the steps around them, which on the CPU become one step each:
// a product takes in the RMS norm before it, its bias, the residual that is added to it, and SwiGLU joins two of them.
// A caller writes the plain steps (rms_norm, matmul, residual_add, swiglu); what has not been computed yet is joined.
// Every function here is lazy and gives float32 by the kernels, its input's type by MLX.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/ops/matrix.h"

namespace mlx_lm::ops {
namespace mx = mlx::core;

// x / rms(x) * weight over the last axis. Shapes: x (..., E), weight (E).
mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps);

// x times the transpose of w, plus bias. Shapes: x (..., cols), bias (rows) -> (..., rows).
mx::array matmul(const mx::array& x, const Matrix& w, const std::optional<mx::array>& bias = std::nullopt);

// One of several products with the same x.
struct Projection {
  const Matrix& weight;
  const std::optional<mx::array>& bias;
};
// The same x times each. On the CPU one step: x is read once, and the threads share all the work out at once.
std::vector<mx::array> matmul(const mx::array& x, const std::vector<Projection>& projections);

// a + b, of the same shape. Where b is a product or a norm, it is added to while it is computed.
mx::array residual_add(const mx::array& a, const mx::array& b);

// silu(gate) * up, elementwise.
mx::array swiglu(const mx::array& gate, const mx::array& up);

}  // namespace mlx_lm::ops
