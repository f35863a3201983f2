// Products with many activation rows in float32: blocks of weight rows are turned into float panels, one after another.
#pragma once

#include <algorithm>
#include <cstring>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

// y[i] = W x[i] for a matrix W of (rows, cols). fill(block, begin, end, panel) writes columns [begin, end) of rows
// [8 * block, 8 * block + 8) as a panel of stride 8.
template <class Fill>
void panel_matmul(int rows, int cols, const float* x, int n, float* y, const Fill& fill) {
  constexpr int kRows = 192;    // activation rows that share a panel: 192 * 256 floats stay in the second-level cache
  constexpr int kDepth = 256;   // columns of a panel: two with 6 activation rows are 22 KiB of the first-level cache
  constexpr int kBlocks = 8;    // panels that share the copied activations
  constexpr int kPadding = 16;  // keeps rows of a power of two from competing for the same cache sets
  const int blocks = (rows + kBlock - 1) / kBlock;
  const int pieces = (blocks + kBlocks - 1) / kBlocks;
  const Table& t = table();
  parallel((n + kRows - 1) / kRows * pieces, 1. * n * rows * cols, [&](int task) {
    const int i0 = task / pieces * kRows, count = std::min(kRows, n - i0);
    const int first = task % pieces * kBlocks, last = std::min(blocks, first + kBlocks);
    alignas(64) float panels[2][kDepth * kBlock];
    alignas(64) float copy[kRows * (kDepth + kPadding)];
    for (int begin = 0; begin < cols; begin += kDepth) {
      const int depth = std::min(kDepth, cols - begin);
      for (int i = 0; i < count; ++i) {
        std::memcpy(copy + i * (kDepth + kPadding), x + static_cast<size_t>(i0 + i) * cols + begin,
                    depth * sizeof(float));
      }
      for (int block = first; block < last; block += 2) {
        float* to = y + static_cast<size_t>(i0) * rows + block * kBlock;
        const int exist = std::min(2 * kBlock, rows - block * kBlock);
        fill(block, begin, begin + depth, panels[0]);
        if (exist > kBlock) {
          fill(block + 1, begin, begin + depth, panels[1]);
          t.panel_products(panels[0], kDepth * kBlock, kBlock, depth, copy, kDepth + kPadding, count, to, rows, exist,
                           /*add=*/begin > 0);
        } else {
          t.panel_product(panels[0], kBlock, depth, copy, kDepth + kPadding, count, to, rows, exist,
                          /*add=*/begin > 0);
        }
      }
    }
  });
}

}  // namespace mlx_lm::kernels
