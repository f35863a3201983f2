// Affine rows as attention reads them.
#pragma once

#include <vector>

#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

// At most kRows rows of an affine buffer as codes of a byte each: what multiplies with them applies scales and biases
// to the sums.
class AffineBlock {
 public:
  static constexpr int kRows = 64;

  // Takes n rows of so many numbers, from the given row of the buffer on.
  void load(const Table& table, const AffineRows& rows, int dim, size_t row, int n);

  int groups() const { return dim_ / group_size_; }
  // y[i][r] = row r . x[i]. x: (count, dim); sums: (count, groups), of x; y: (count, kRows).
  void dots(const float* x, const float* sums, int count, float* y);
  // out[i] += sum over r of p[i][r] * row r. p: (count, kRows).
  void add_weighted(const float* p, int count, float* out, size_t out_stride);
  // out: (n, stride).
  void to_float(float* out, size_t stride) const;

 private:
  const float* scales(int group) const { return factors_.data() + static_cast<size_t>(2 * group) * kRows; }
  const float* biases(int group) const { return scales(group) + kRows; }

  const Table* table_ = nullptr;
  int dim_ = 0, group_size_ = 0, rows_ = 0;
  Rows codes_;
  std::vector<uint8_t> bytes_;  // (rows, dim), where the buffer's own codes are smaller
  std::vector<float> factors_;  // for each group kRows scales, then kRows biases
  std::vector<float> memory_;
};

// The sum of each group of x, (count, dim) -> (count, dim / group_size).
void group_sums(const float* x, size_t count, int dim, int group_size, float* sums);

}  // namespace mlx_lm::kernels
