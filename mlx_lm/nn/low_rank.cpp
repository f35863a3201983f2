#include "mlx_lm/nn/low_rank.h"

#include <algorithm>
#include <utility>

#include "mlx_lm/ops/low_rank.h"
#include "mlx_lm/ops/products.h"

namespace mlx_lm::nn {
namespace {

// Row by row without gaps, as the kernels want it.
mx::array laid_out(mx::array x) {
  x = mx::contiguous(x);
  x.eval();
  return x;
}

// m / |base + left right^T|, by rows. Shapes: left (rows, r), right (cols, r), m (rows) -> (rows).
mx::array stretch_of(const ops::Matrix& base, const mx::array& left, const mx::array& right, const mx::array& m) {
  constexpr int kNumbers = 1 << 22;  // of the base at a time: it may be quantized, and then has no room to be wide
  const int rows = base.rows(), piece = std::max(1, kNumbers / base.cols());
  const auto product = ops::Matrix::dense(right);
  std::vector<mx::array> lengths;
  for (int i = 0; i < rows; i += piece) {
    const int end = std::min(rows, i + piece);
    const auto own = mx::astype(ops::take_rows(base, mx::arange(i, end)), mx::float32);
    const auto low = ops::matmul(mx::slice(left, {i, 0}, {end, left.shape(1)}), product);
    lengths.push_back(mx::sqrt(mx::sum(mx::square(ops::residual_add(own, low)), -1)));
    lengths.back().eval();
  }
  auto stretch = m / mx::concatenate(lengths);
  stretch.eval();
  return stretch;
}

}  // namespace

LowRank::LowRank(ops::Matrix down, mx::array up, std::optional<mx::array> stretch, std::optional<mx::array> bias)
    : down_(std::move(down)), up_(std::move(up)), stretch_(std::move(stretch)), bias_(std::move(bias)) {}

std::shared_ptr<const LowRank> LowRank::take(const Weights& w, const ops::Matrix& base,
                                             const std::optional<mx::array>& bias, MatrixUse use) {
  auto tensors = w.take_low_rank(base.cols(), base.rows(), base.rows(), use);
  if (!tensors) return nullptr;
  const auto& [a, b, m] = *tensors;
  auto stretch = m ? std::optional(stretch_of(base, mx::transpose(b), a, *m)) : std::nullopt;
  return std::make_shared<LowRank>(ops::Matrix::dense(mx::transpose(a)), laid_out(b), std::move(stretch),
                                   m ? bias : std::nullopt);
}

mx::array LowRank::add(const mx::array& y, const mx::array& low) const {
  return ops::add_low_rank(y, low, up_, stretch_, bias_);
}

LowRankTable::LowRankTable(ops::Matrix table, LowRank lookup, LowRank output, std::optional<mx::array> stretch)
    : table_(std::move(table)), lookup_(std::move(lookup)), output_(std::move(output)), stretch_(std::move(stretch)) {}

std::shared_ptr<const LowRankTable> LowRankTable::take(const Weights& w, const ops::Matrix& base) {
  auto tensors = w.take_low_rank(base.rows(), base.cols(), base.rows(), MatrixUse::table);
  if (!tensors) return nullptr;
  const auto& [a, b, m] = *tensors;  // (V, r), (r, E), (V)
  const auto stretch = m ? std::optional(stretch_of(base, a, mx::transpose(b), *m)) : std::nullopt;
  const auto table = ops::Matrix::dense(a), narrow = ops::Matrix::dense(b);
  const LowRank lookup(table, laid_out(b), {}, {}), output(narrow, laid_out(mx::transpose(a)), stretch, {});
  return std::shared_ptr<const LowRankTable>(new LowRankTable(table, lookup, output, stretch));
}

mx::array LowRankTable::add(const mx::array& rows, const mx::array& tokens) const {
  auto sum = lookup_.add(rows, ops::take_rows(table_, tokens));
  if (!stretch_) return sum;
  const auto stretch = mx::expand_dims(mx::take(*stretch_, tokens), -1);
  return sum * mx::astype(stretch, sum.dtype());
}

mx::array LowRankTable::as_linear(const mx::array& logits, const mx::array& x) const {
  return output_.add(logits, ops::matmul(x, output_.down()));
}

}  // namespace mlx_lm::nn
