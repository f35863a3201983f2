#include "mlx_lm/generate/embedder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/footprint.h"
#include "mlx_lm/generate/steps.h"
#include "mlx_lm/nn/hidden_states.h"
#include "mlx_lm/ops/join.h"

namespace mlx_lm {

Embedder::Embedder(const models::LanguageModel& model, Pooling pooling, std::vector<std::vector<int>> texts, int piece)
    : model_(model), pooling_(pooling), texts_(std::move(texts)), piece_(piece), vectors_(texts_.size()) {
  order_.resize(texts_.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return texts_[a].size() < texts_[b].size(); });
}

// As many texts as fit a piece, or one that may take many.
void Embedder::begin() {
  first_ = end_;
  for (end_ = first_ + 1; end_ < order_.size(); ++end_) {
    if ((end_ + 1 - first_) * texts_[order_[end_]].size() > size_t(piece_)) break;
  }
  done_ = 0;
  caches_ = model_.make_cache();
  sums_.assign(end_ - first_, {});
}

bool Embedder::step() {
  if (caches_.empty()) {
    if (end_ == order_.size()) return false;
    begin();
  }
  const int rows = int(end_ - first_);
  const int longest = int(texts_[order_[end_ - 1]].size());
  const int length = std::min(longest - done_, std::max(1, piece_ / rows));
  std::vector<int> tokens;
  for (size_t i = first_; i < end_; ++i) {
    const auto& text = texts_[order_[i]];
    for (int at = done_; at < done_ + length; ++at) tokens.push_back(text[std::min<size_t>(at, text.size() - 1)]);
  }
  const nn::HiddenStates newest;
  model_(mx::array(tokens.begin(), {rows, length}, mx::int32), caches_);
  auto states = *newest;
  // The caches of a text that ends here are not wanted any more.
  const bool is_end = done_ + length == longest;
  if (is_end) {
    ops::join({&states});
  } else {
    join(caches_, {&states});
    eval_state(caches_);
  }
  states = mx::contiguous(mx::astype(states, mx::float32));
  states.eval();
  if (done_ == 0 && !is_end) bytes_ = cache::Footprint(caches_, piece_)(longest);
  pool(states);
  done_ += length;
  if (is_end) end();
  mx::clear_cache();
  return true;
}

void Embedder::pool(const mx::array& states) {
  const int length = states.shape(1), width = states.shape(2);
  for (size_t row = 0; row < sums_.size(); ++row) {
    const int last = int(texts_[order_[first_ + row]].size()) - 1;
    auto& sum = sums_[row];
    if (sum.empty()) sum.assign(width, pooling_ == Pooling::max ? -std::numeric_limits<double>::infinity() : 0);
    for (int i = 0; i < length && done_ + i <= last; ++i) {
      const int at = done_ + i;
      if ((pooling_ == Pooling::first && at != 0) || (pooling_ == Pooling::last && at != last)) continue;
      const double weight = pooling_ == Pooling::weighted_mean ? at + 1 : 1;
      const float* state = states.data<float>() + (row * length + i) * width;
      for (int k = 0; k < width; ++k) {
        sum[k] = pooling_ == Pooling::max ? std::max(sum[k], double(state[k])) : sum[k] + weight * state[k];
      }
    }
  }
}

// A mean is a sum of another length.
void Embedder::end() {
  for (size_t row = 0; row < sums_.size(); ++row) {
    const auto& sum = sums_[row];
    const double norm = std::sqrt(std::inner_product(sum.begin(), sum.end(), sum.begin(), 0.0));
    if (!std::isfinite(norm)) fail<Error>("[embedder] states: expected finite numbers, found others");
    auto& vector = vectors_[order_[first_ + row]];
    for (double x : sum) vector.push_back(float(norm > 0 ? x / norm : 0));
  }
  caches_.clear();
  bytes_ = 0;
}

}  // namespace mlx_lm
