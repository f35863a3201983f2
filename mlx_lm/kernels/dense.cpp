// Products with floating-point matrices, used where they lie.
//
// Any number of activation rows goes through Table::dots, so a row's result never depends on how many there are. Panels
// (panels.h) were slower: a tile of 3 weight rows by 4 activation rows has 7 loads for 12 multiplications, all of them
// of whole vectors, where a tile of panels has 8 and turns the weights first.
#include <algorithm>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kDepth = 1536;  // columns at a time: 4 activation rows of them stay in the first-level cache
constexpr int kRows = 48;     // activation rows of a task: they stay in the second-level cache for the next one
constexpr int kUnit = 24;     // weight rows of a task are a multiple of what any instruction set takes together

// Columns summed at a time, about equal parts of all; the same for any n.
int depth_of(int cols) {
  const int parts = std::max(1, (cols + kDepth - 1) / kDepth);
  return ((cols + parts - 1) / parts + 15) / 16 * 16;
}

}  // namespace

void matmul(const float* x, int n, const DenseMatrix& w, float* y) {
  const Rows rows{w.data, w.type, static_cast<size_t>(w.cols)};
  const Table& t = table();
  const size_t cols = w.cols;
  const int depth = depth_of(w.cols);
  // Pieces of about 64 KiB: many enough to spread, large enough for the hardware's prefetcher, small enough to stay in
  // the second-level cache beside the activations.
  const int piece = std::max<int>(1, 65536 / (size_of(w.type) * std::max<size_t>(1, cols)) / kUnit) * kUnit;
  const int blocks = (n + kRows - 1) / kRows, pieces = (w.rows + piece - 1) / piece;
  parallel(blocks * pieces, 1. * n * w.rows * cols, [&](int task) {
    const int first = task % pieces * piece, exist = std::min(piece, w.rows - first);
    const size_t i0 = static_cast<size_t>(task / pieces) * kRows;
    const int count = std::min<int>(kRows, n - i0);
    const float* const from = x + i0 * cols;
    float* const to = y + i0 * w.rows + first;
    t.dots(rows.from(first, 0), exist, std::min(depth, w.cols), from, cols, count, to, w.rows);
    for (int c = depth; c < w.cols; c += depth) {
      float sums[kRows * kUnit];  // more columns than kDepth make the piece one unit
      t.dots(rows.from(first, c), exist, std::min(depth, w.cols - c), from + c, cols, count, sums, kUnit);
      for (int i = 0; i < count; ++i) {
        for (int r = 0; r < exist; ++r) to[static_cast<size_t>(i) * w.rows + r] += sums[i * kUnit + r];
      }
    }
  });
}

void take_rows(const DenseMatrix& w, const int32_t* ids, int n, float* out) {
  const Rows rows{w.data, w.type, static_cast<size_t>(w.cols)};
  parallel_pieces(n, 8, 1. * n * w.cols, [&](int first, int last) {
    for (int i = first; i < last; ++i) {
      table().to_float(w.type, rows.from(ids[i], 0).data, w.cols, out + static_cast<size_t>(i) * w.cols);
    }
  });
}

}  // namespace mlx_lm::kernels
