// Products with floating-point matrices, used where they lie.
#include "mlx_lm/kernels/panels.h"

namespace mlx_lm::kernels {

void matmul(const float* x, int n, const DenseMatrix& w, float* y) {
  constexpr int kFew = 3;  // rows of x for which reading W anew (from the cache) beats turning it into panels
  const Rows rows{w.data, w.type, static_cast<size_t>(w.cols)};
  const Table& t = table();
  if (n > kFew) {
    panel_matmul(w.rows, w.cols, x, n, y, [&](int block, int begin, int end, float* panel) {
      const int first = block * kBlock;
      t.panel(rows.from(first, begin), std::min(kBlock, w.rows - first), end - begin, panel);
    });
    return;
  }
  // Pieces of about 64 KiB: many enough to spread, large enough for the hardware's prefetcher.
  const int piece = std::max<int>(4, 65536 / (size_of(w.type) * std::max(1, w.cols)) / 4 * 4);
  parallel_pieces(w.rows, piece, 1. * n * w.rows * w.cols, [&](int first, int last) {
    t.dots(rows.from(first, 0), last - first, w.cols, x, w.cols, n, y + first, w.rows);
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
