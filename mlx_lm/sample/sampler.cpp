#include "mlx_lm/sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_lm/base/error.h"

namespace mlx_lm::sample {
namespace {

mx::array minus_infinity(const mx::array& like) {
  return mx::array(-std::numeric_limits<float>::infinity(), like.dtype());
}

void expect(bool good, const char* option, const char* range, double found) {
  if (!good) fail<RequestError>("[sample] {}: expected {}, found {}", option, range, found);
}

}  // namespace

void SamplerOptions::validate() const {
  // Written so that NaN fails too.
  expect(temp >= 0 && temp < std::numeric_limits<float>::infinity(), "temp", "a number of at least 0", temp);
  expect(top_p >= 0 && top_p <= 1, "top-p", "a number from 0 to 1", top_p);
  expect(min_p >= 0 && min_p <= 1, "min-p", "a number from 0 to 1", min_p);
  expect(min_tokens_to_keep >= 1, "min-tokens-to-keep", "at least 1", min_tokens_to_keep);
  expect(top_k >= 0, "top-k", "at least 0", top_k);
  expect(xtc_probability >= 0 && xtc_probability <= 1, "xtc-probability", "a number from 0 to 1", xtc_probability);
  expect(xtc_threshold >= 0 && xtc_threshold <= 0.5f, "xtc-threshold", "a number from 0 to 0.5", xtc_threshold);
}

Sampler make_sampler(const SamplerOptions& o) {
  o.validate();
  if (o.temp == 0) return [](const mx::array& logprobs) { return mx::argmax(logprobs, -1); };
  return [o](const mx::array& logprobs) {
    auto kept = logprobs;
    if (o.top_p > 0 && o.top_p < 1) kept = apply_top_p(kept, o.top_p);
    if (o.min_p > 0) kept = apply_min_p(kept, o.min_p, o.min_tokens_to_keep);
    if (o.xtc_probability > 0) kept = apply_xtc(kept, o.xtc_probability, o.xtc_threshold, o.xtc_special_tokens);
    if (o.top_k > 0) kept = apply_top_k(kept, o.top_k);
    return mx::random::categorical(kept * mx::array(1 / o.temp, kept.dtype()), -1);
  };
}

mx::array apply_top_p(const mx::array& logprobs, float top_p) {
  const auto ascending = mx::sort(logprobs, -1);
  const auto probs = mx::exp(mx::astype(ascending, mx::float32));
  // The probability of all that is likelier than each token; those to which the others already reach top_p are dropped.
  const auto above = mx::cumsum(probs, -1, /* reverse */ true, /* inclusive */ false);
  const auto first = [](const mx::array& x) {
    auto stop = x.shape();
    stop.back() = 1;
    return mx::slice(x, mx::Shape(x.ndim(), 0), stop);
  };
  const auto total = first(above) + first(probs);
  const auto dropped = mx::sum(mx::astype(mx::greater_equal(above, mx::array(top_p) * total), mx::int32), -1, true);
  const auto threshold = mx::take_along_axis(ascending, dropped, -1);
  return mx::where(mx::less(logprobs, threshold), minus_infinity(logprobs), logprobs);
}

mx::array apply_min_p(const mx::array& logprobs, float min_p, int min_tokens_to_keep) {
  const auto least = mx::max(logprobs, -1, true) + mx::array(std::log(min_p), logprobs.dtype());
  auto drop = mx::less(logprobs, least);
  const int size = logprobs.shape(-1);
  if (const int keep = std::min(min_tokens_to_keep, size); keep > 1) {
    auto likeliest = mx::argpartition(logprobs, size - keep, -1);
    mx::Shape start(logprobs.ndim(), 0);
    start.back() = size - keep;
    likeliest = mx::slice(likeliest, start, logprobs.shape());
    drop = mx::put_along_axis(drop, likeliest, mx::array(false), -1);
  }
  return mx::where(drop, minus_infinity(logprobs), logprobs);
}

mx::array apply_top_k(const mx::array& logprobs, int top_k) {
  const int size = logprobs.shape(-1);
  if (top_k >= size) return logprobs;
  mx::Shape start(logprobs.ndim(), 0);
  start.back() = top_k;
  const auto others = mx::slice(mx::argpartition(mx::negative(logprobs), top_k - 1, -1), start, logprobs.shape());
  return mx::put_along_axis(logprobs, others, minus_infinity(logprobs), -1);
}

mx::array apply_xtc(const mx::array& logprobs, float probability, float threshold,
                    const std::vector<int>& special_tokens) {
  const auto probs = mx::softmax(logprobs, std::vector<int>{-1}, /* precise */ true);
  const auto infinity = mx::array(std::numeric_limits<float>::infinity(), probs.dtype());
  const auto likely = mx::where(mx::greater(probs, mx::array(threshold, probs.dtype())), probs, infinity);
  auto drop = mx::greater(probs, mx::min(likely, -1, true));
  // A configuration may name end tokens that the model does not have; MLX checks no index.
  std::vector<int> known;
  for (int id : special_tokens) {
    if (id >= 0 && id < logprobs.shape(-1)) known.push_back(id);
  }
  if (!known.empty()) {
    mx::Shape one(logprobs.ndim(), 1);
    one.back() = int(known.size());
    auto ids = mx::reshape(mx::array(known.begin(), {one.back()}, mx::int32), one);
    auto shape = logprobs.shape();
    shape.back() = one.back();
    drop = mx::put_along_axis(drop, mx::broadcast_to(ids, shape), mx::array(false), -1);
  }
  const auto spared = mx::greater(mx::random::uniform(mx::Shape{}), mx::array(probability));
  return mx::where(mx::logical_or(spared, mx::logical_not(drop)), logprobs, minus_infinity(logprobs));
}

}  // namespace mlx_lm::sample
