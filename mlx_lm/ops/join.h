// Many small steps of the CPU made one.
#pragma once

#include <vector>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// Replaces each of the arrays by one with the same value, for which the CPU steps of ours that have not been computed
// yet run as few large ones: MLX spends more time on a small step than the kernel does, and its two threads wake each
// other for every ten of them. MLX's own operations between them stay as they are and divide what is joined.
// Every array that is still wanted and depends on these steps must be given (logits and caches together): one that is
// not computes them a second time. Does nothing by MLX (Backend::mlx). Eval: lazy.
void join(const std::vector<mx::array*>& arrays);

}  // namespace mlx_lm::ops
