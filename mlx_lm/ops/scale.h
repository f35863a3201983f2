// Numbers times those of a vector.
#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// x * factors + bias over the last axis. Lazy; float32 by the kernels, x's type by MLX. Shapes: x (..., E), factors,
// bias (E).
mx::array scale(const mx::array& x, const mx::array& factors, const std::optional<mx::array>& bias = std::nullopt);

}  // namespace mlx_lm::ops
