// How products with packed matrices are cut: one place for single matrices and for experts.
#pragma once

#include <algorithm>

#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

constexpr int kFew = 4;         // activation rows for which the weights are not unpacked first
constexpr int kManyBlocks = 8;  // blocks of a piece for more rows

// Blocks of a piece for few rows, where `bytes` are read in all: long enough for the prefetcher, and many enough that
// the last one to finish is not waited for long.
inline int few_blocks(const PackedView& w, size_t bytes) {
  const size_t piece = std::clamp<size_t>(bytes / 16, 16 << 10, 128 << 10);
  return static_cast<int>(std::max<size_t>(1, piece / w.block_bytes()));
}

// Activation rows that stay in the second-level cache while blocks of weights pass by.
inline int rows_together(int cols, size_t code_bytes) {
  const int fit = (256 << 10) / (cols * static_cast<int>(code_bytes));
  return std::clamp(fit, 32, 256) / 4 * 4;
}

}  // namespace mlx_lm::kernels
