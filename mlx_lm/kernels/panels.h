// Products with many activation rows in float32: blocks of weight rows are turned into float panels, one after another.
#pragma once

#include <algorithm>
#include <cstring>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

constexpr int kPanelRows = 192;  // activation rows that share a panel: 192 * 256 floats stay in the second-level cache
constexpr int kPanelBlocks = 8;  // panels that share the copied activations

// y[i] = W row(i) for i < count <= kPanelRows and the rows of blocks [first, last) of W (rows, cols), of which the
// first is y[0]; y's rows are `stride` apart. fill(block, begin, end, panel) writes columns [begin, end) of rows [8 *
// block, 8 * block + 8) as a panel of stride 8.
template <class Row, class Fill>
void panel_piece(int rows, int cols, int first, int last, int count, const Row& row, float* y, size_t stride,
                 const Fill& fill) {
  constexpr int kDepth = 256;   // columns of a panel: two with 6 activation rows are 22 KiB of the first-level cache
  constexpr int kPadding = 16;  // keeps rows of a power of two from competing for the same cache sets
  alignas(64) float panels[2][kDepth * kBlock];
  alignas(64) float copy[kPanelRows * (kDepth + kPadding)];
  const Table& t = table();
  for (int begin = 0; begin < cols; begin += kDepth) {
    const int depth = std::min(kDepth, cols - begin);
    for (int i = 0; i < count; ++i) {
      std::memcpy(copy + i * (kDepth + kPadding), row(i) + begin, depth * sizeof(float));
    }
    for (int block = first; block < last; block += 2) {
      float* to = y + (block - first) * kBlock;
      const int exist = std::min(std::min(last - block, 2) * kBlock, rows - block * kBlock);
      fill(block, begin, begin + depth, panels[0]);
      if (exist > kBlock) {
        fill(block + 1, begin, begin + depth, panels[1]);
        t.panel_products(panels[0], kDepth * kBlock, kBlock, depth, copy, kDepth + kPadding, count, to, stride, exist,
                         /*add=*/begin > 0);
      } else {
        t.panel_product(panels[0], kBlock, depth, copy, kDepth + kPadding, count, to, stride, exist,
                        /*add=*/begin > 0);
      }
    }
  }
}

// y[i] = W x[i] for a matrix W of (rows, cols).
template <class Fill>
void panel_matmul(int rows, int cols, const float* x, int n, float* y, const Fill& fill) {
  const int blocks = (rows + kBlock - 1) / kBlock;
  const int pieces = (blocks + kPanelBlocks - 1) / kPanelBlocks;
  parallel((n + kPanelRows - 1) / kPanelRows * pieces, 1. * n * rows * cols, [&](int task) {
    const int i0 = task / pieces * kPanelRows, first = task % pieces * kPanelBlocks;
    panel_piece(
        rows, cols, first, std::min(blocks, first + kPanelBlocks), std::min(kPanelRows, n - i0),
        [&](int i) { return x + static_cast<size_t>(i0 + i) * cols; },
        y + static_cast<size_t>(i0) * rows + first * kBlock, rows, fill);
  });
}

}  // namespace mlx_lm::kernels
