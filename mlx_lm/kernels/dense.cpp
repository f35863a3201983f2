// Products with floating-point matrices, used where they lie.
//
// Any number of activation rows goes through Table::dots, so a row's result never depends on how many there are. Panels
// (panels.h) were slower: a tile of 3 weight rows by 4 activation rows has 7 loads for 12 multiplications, all of them
// of whole vectors, where a tile of panels has 8 and turns the weights first.
#include "mlx_lm/kernels/dense.h"

#include <algorithm>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kDepth = 1536;  // columns at a time: 4 activation rows of them stay in the first-level cache
constexpr int kUnit = 24;     // weight rows of a piece are a multiple of what any instruction set takes together

// Columns summed at a time, about equal parts of all; the same for any n.
int depth_of(int cols) {
  const int parts = std::max(1, (cols + kDepth - 1) / kDepth);
  return ((cols + parts - 1) / parts + 15) / 16 * 16;
}

}  // namespace

int dense_piece_rows(const DenseMatrix& w) {
  return std::max<int>(1, 65536 / (size_of(w.type) * std::max(1, w.cols)) / kUnit) * kUnit;
}

void dense_piece(const DenseMatrix& w, int first, int count, const float* x, int n, float* y, size_t y_stride) {
  const Rows rows{w.data, w.type, static_cast<size_t>(w.cols)};
  const Table& t = table();
  const size_t cols = w.cols;
  const int depth = depth_of(w.cols);
  t.dots(rows.from(first, 0), count, std::min(depth, w.cols), x, cols, n, y, y_stride);
  for (int c = depth; c < w.cols; c += depth) {
    float sums[kDenseRows * kUnit];  // more columns than kDepth make the piece one unit
    t.dots(rows.from(first, c), count, std::min(depth, w.cols - c), x + c, cols, n, sums, kUnit);
    for (int i = 0; i < n; ++i) {
      for (int r = 0; r < count; ++r) y[i * y_stride + r] += sums[i * kUnit + r];
    }
  }
}

void matmul(const float* x, int n, const DenseMatrix& w, float* y) {
  const int piece = dense_piece_rows(w);
  const int blocks = (n + kDenseRows - 1) / kDenseRows, pieces = (w.rows + piece - 1) / piece;
  parallel(blocks * pieces, 1. * n * w.rows * w.cols, [&](int task) {
    const int first = task % pieces * piece, i0 = task / pieces * kDenseRows;
    dense_piece(w, first, std::min(piece, w.rows - first), x + static_cast<size_t>(i0) * w.cols,
                std::min(kDenseRows, n - i0), y + static_cast<size_t>(i0) * w.rows + first, w.rows);
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
