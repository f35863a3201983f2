#include "mlx_lm/kernels/low_rank.h"

#include <algorithm>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kRows = 8, kColumns = 1024;  // of a task: its sums stay in the first-level cache

}  // namespace

void add_low_rank(const LowRankArgs& a, float* out) {
  const int pieces = (a.size + kColumns - 1) / kColumns, blocks = (a.n + kRows - 1) / kRows;
  const Rows up{a.up, Type::f32, static_cast<size_t>(a.size)};
  const auto weighted_sums = table().weighted_sums;
  parallel(blocks * pieces, 1. * a.n * a.rank * a.size, [&](int task) {
    const int first = task % pieces * kColumns, count = std::min(kColumns, a.size - first);
    const int end = std::min(a.n, (task / pieces + 1) * kRows);
    for (int i = task / pieces * kRows; i < end; ++i) {
      const size_t at = static_cast<size_t>(i) * a.size + first;
      float sums[kColumns];
      std::copy_n(a.y + at, count, sums);
      weighted_sums(up.from(0, first), a.rank, count, a.low + static_cast<size_t>(i) * a.rank, a.rank, 1, sums,
                    kColumns);
      if (a.stretch) {
        for (int c = 0; c < count; ++c) sums[c] *= a.stretch[first + c];
      }
      if (a.bias) {
        for (int c = 0; c < count; ++c) sums[c] += a.bias[first + c];
      }
      if (a.residual) {
        for (int c = 0; c < count; ++c) sums[c] += a.residual[at + c];
      }
      std::copy_n(sums, count, out + at);
    }
  });
}

}  // namespace mlx_lm::kernels
