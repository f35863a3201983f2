// Norms, activation functions and the choice of tokens: on the CPU our kernels (kernels/), elsewhere MLX's.
// Every function here is lazy, like MLX's own, and gives float32 by the kernels, its input's type by MLX.
// Shape letters: docs/shapes.md.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// x / rms(x) over the last axis.
mx::array rms_norm(const mx::array& x, float eps);

// (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias over the last axis. Shapes: x (..., E), weight, bias (E).
mx::array layer_norm(const mx::array& x, const std::optional<mx::array>& weight, const std::optional<mx::array>& bias,
                     float eps);

// x * (1 + erf(x / sqrt(2))) / 2 (Python's nn.gelu), or by tanh, which comes near it (nn.gelu_approx).
enum class Gelu { erf, tanh };
mx::array gelu(const mx::array& x, Gelu kind);
// gelu(gate) * up, elementwise.
mx::array geglu(const mx::array& gate, const mx::array& up, Gelu kind);

// The place of the largest number along the last axis, the first of equal ones. Shapes: x (..., V) -> (...) uint32.
mx::array argmax(const mx::array& x);
// The k <= V largest numbers along the last axis, from the largest down, and their places (uint32); the kernels put the
// first of equal ones first, MLX any of them. Shapes: x (..., V) -> two of (..., k).
std::pair<mx::array, mx::array> top_k(const mx::array& x, int k);

}  // namespace mlx_lm::ops
