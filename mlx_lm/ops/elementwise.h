// Arithmetic number by number: on the CPU our kernels, elsewhere MLX's operations. Lazy, and float32 by the kernels,
// the input's type by MLX.
#pragma once

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// x * factor, which MLX rounds to x's type first.
mx::array scale(const mx::array& x, float factor);
// cap * tanh(x / cap).
mx::array softcap(const mx::array& x, float cap);
// Of the same shape.
mx::array add(const mx::array& a, const mx::array& b);
// Each row of a times b. Shapes: a (..., E), b (E).
mx::array multiply(const mx::array& a, const mx::array& b);
// gelu(max(0, gate - cutoff)) * up, gelu by tanh, cutoff: the mean of a row of the gate and so many of its standard
// deviations. Shapes: gate, up (..., F).
mx::array sparse_geglu(const mx::array& gate, const mx::array& up, float deviations);

}  // namespace mlx_lm::ops
