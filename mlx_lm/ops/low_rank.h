// What an adapter adds to a product.
#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// (y + low up) * stretch + bias. Lazy; float32 by the kernels, y's type by MLX.
// Shapes: y (..., out), low (..., r), up (r, out) float32, stretch and bias (out) -> (..., out).
mx::array add_low_rank(const mx::array& y, const mx::array& low, const mx::array& up,
                       const std::optional<mx::array>& stretch = std::nullopt,
                       const std::optional<mx::array>& bias = std::nullopt);

// a + b where b is such a sum that has not been computed yet: a is added in the same step. Nothing otherwise.
std::optional<mx::array> add_to_low_rank(const mx::array& a, const mx::array& b);

}  // namespace mlx_lm::ops
