// How products with floating-point matrices are cut: one place for single matrices and for experts.
#pragma once

#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::kernels {

constexpr int kDenseRows = 48;  // activation rows of a piece: they stay in the second-level cache for the next one

// Matrix rows of a piece, about 64 KiB: many enough to spread, large enough for the hardware's prefetcher, small enough
// to stay in the second-level cache beside the activations.
int dense_piece_rows(const DenseMatrix& w);
// y[i][r] = w[first + r] . x[i] for r < count <= dense_piece_rows() and i < n <= kDenseRows. x: (n, cols); y's rows are
// y_stride apart. A row's result does not depend on n. One thread.
void dense_piece(const DenseMatrix& w, int first, int count, const float* x, int n, float* y, size_t y_stride);

}  // namespace mlx_lm::kernels
