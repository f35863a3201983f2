// Attention by MLX's own operations: for attention.cpp only.
#pragma once

#include "mlx_lm/ops/attention.h"

namespace mlx_lm::ops {

// Of one run. Shapes: q (B, L, H, D) -> (B, L, H, D').
mx::array mlx_attention(const mx::array& q, const KVSegment& seen, float scale, const AttentionOptions& options);

}  // namespace mlx_lm::ops
