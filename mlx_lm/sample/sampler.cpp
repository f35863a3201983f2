#include "mlx_lm/sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/ops.h"
#include "mlx_lm/ops/sampling.h"

namespace mlx_lm::sample {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void expect(bool good, const char* option, const char* range, double found) {
  if (!good) fail<RequestError>("[sample] {}: expected {}, found {}", option, range, found);
}

// Of the standard library only the engine gives the same numbers everywhere.
class Random {
 public:
  explicit Random(std::optional<uint64_t> seed) : engine_(seed ? *seed : fresh()) {}

  uint64_t bits() { return engine_(); }
  // In (0, 1), neither end included.
  double uniform() { return (double(engine_() >> 12) + 0.5) * 0x1p-52; }

 private:
  static uint64_t fresh() {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }
  std::mt19937_64 engine_;
};

// Numbers for each row, always as many, so that what a row gets does not hang on what others did.
std::vector<ops::Draw> draws(Random& random, size_t rows, float xtc_probability) {
  std::vector<ops::Draw> all(rows);
  for (auto& draw : all) {
    if (xtc_probability > 0) draw.xtc = random.uniform() <= xtc_probability;
    draw.token = random.uniform();
  }
  return all;
}

std::vector<int32_t> ascending(std::vector<int> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

bool by_kernels() { return ops::backend() == ops::Backend::kernels; }

// The filters by MLX's operations. NaN is taken out first: MLX's sort and softmax have other ideas of it.
namespace stock {

mx::array nothing(const mx::array& like) { return mx::array(-kInfinity, like.dtype()); }

mx::array cleaned(const mx::array& x) {
  const auto most = mx::array(mx::finfo(x.dtype()).max, x.dtype());
  return mx::where(mx::isnan(x), nothing(x), mx::minimum(x, most));
}

mx::array last(const mx::array& x, int begin, int end) {
  mx::Shape start(x.ndim(), 0), stop = x.shape();
  start.back() = begin, stop.back() = end;
  return mx::slice(x, start, stop);
}

mx::array top_p(const mx::array& x, float p) {
  const auto ascending = mx::sort(x, -1);
  const auto probs = mx::softmax(mx::astype(ascending, mx::float32), -1);
  // The probability of all that is likelier than each token; those to which the others already reach p are dropped.
  const auto above = mx::cumsum(probs, -1, /* reverse */ true, /* inclusive */ false);
  const auto total = last(above, 0, 1) + last(probs, 0, 1);
  const auto dropped = mx::sum(mx::astype(mx::greater_equal(above, mx::array(p) * total), mx::int32), -1, true);
  const auto floor = mx::take_along_axis(ascending, dropped, -1);
  return mx::where(mx::less(x, floor), nothing(x), x);
}

mx::array min_p(const mx::array& x, float p, int min_tokens_to_keep) {
  const auto least = mx::max(x, -1, true) + mx::array(std::log(p), x.dtype());
  auto drop = mx::less(x, least);
  const int size = x.shape(-1);
  if (const int keep = std::min(min_tokens_to_keep, size); keep > 1) {
    const auto likeliest = last(mx::argpartition(x, size - keep, -1), size - keep, size);
    drop = mx::put_along_axis(drop, likeliest, mx::array(false), -1);
  }
  return mx::where(drop, nothing(x), x);
}

mx::array top_k(const mx::array& x, int k) {
  const int size = x.shape(-1);
  if (k >= size) return x;
  const auto others = last(mx::argpartition(mx::negative(x), k - 1, -1), k, size);
  return mx::put_along_axis(x, others, nothing(x), -1);
}

mx::array xtc(const mx::array& x, float threshold, const std::vector<int32_t>& spared) {
  const auto probs = mx::softmax(x, -1, /* precise */ true);
  const auto infinity = mx::array(kInfinity, probs.dtype());
  const auto likely = mx::where(mx::greater(probs, mx::array(threshold, probs.dtype())), probs, infinity);
  auto drop = mx::greater(probs, mx::min(likely, -1, true));
  // A configuration may name end tokens that the model does not have; MLX checks no index.
  std::vector<int32_t> known;
  for (int32_t id : spared) {
    if (id >= 0 && id < x.shape(-1)) known.push_back(id);
  }
  if (!known.empty()) {
    mx::Shape one(x.ndim(), 1);
    one.back() = int(known.size());
    const auto ids = mx::reshape(mx::array(known.begin(), {one.back()}, mx::int32), one);
    auto shape = x.shape();
    shape.back() = one.back();
    drop = mx::put_along_axis(drop, mx::broadcast_to(ids, shape), mx::array(false), -1);
  }
  return mx::where(drop, nothing(x), x);
}

mx::array sample(const mx::array& logits, const ops::Filters& f, float temp, const std::vector<ops::Draw>& draws,
                 const mx::array& key) {
  auto x = cleaned(logits);
  const auto most = mx::max(x, -1, true);
  x = mx::where(mx::less(x, most), x - most, mx::array(0, x.dtype()));
  if (f.top_p > 0 && f.top_p < 1) x = top_p(x, f.top_p);
  if (f.min_p > 0) x = min_p(x, f.min_p, f.min_tokens_to_keep);
  std::vector<bool> acts;
  for (const auto& draw : draws) acts.push_back(draw.xtc);
  if (std::find(acts.begin(), acts.end(), true) != acts.end()) {
    auto shape = x.shape();
    shape.back() = 1;
    x = mx::where(mx::array(acts.begin(), shape, mx::bool_), xtc(x, f.xtc_threshold, f.xtc_spared), x);
  }
  if (f.top_k > 0) x = top_k(x, f.top_k);
  const auto token = mx::random::categorical(x * mx::array(1 / temp, x.dtype()), -1, key);
  return mx::where(mx::equal(mx::squeeze(most, -1), nothing(x)), mx::array(0, mx::uint32), token);
}

}  // namespace stock
}  // namespace

void SamplerOptions::validate() const {
  // Written so that NaN fails too.
  expect(temp >= 0 && temp < kInfinity, "temp", "a number of at least 0", temp);
  expect(top_p >= 0 && top_p <= 1, "top-p", "a number from 0 to 1", top_p);
  expect(min_p >= 0 && min_p <= 1, "min-p", "a number from 0 to 1", min_p);
  expect(min_tokens_to_keep >= 1, "min-tokens-to-keep", "at least 1", min_tokens_to_keep);
  expect(top_k >= 0, "top-k", "at least 0", top_k);
  expect(xtc_probability >= 0 && xtc_probability <= 1, "xtc-probability", "a number from 0 to 1", xtc_probability);
  expect(xtc_threshold >= 0 && xtc_threshold <= 0.5f, "xtc-threshold", "a number from 0 to 0.5", xtc_threshold);
}

Sampler make_sampler(const SamplerOptions& o) {
  o.validate();
  if (o.temp == 0) return ops::argmax;
  const auto filters = std::make_shared<const ops::Filters>(ops::Filters{.top_p = o.top_p,
                                                                         .min_p = o.min_p,
                                                                         .min_tokens_to_keep = o.min_tokens_to_keep,
                                                                         .xtc_threshold = o.xtc_threshold,
                                                                         .xtc_spared = ascending(o.xtc_special_tokens),
                                                                         .top_k = o.top_k});
  return [filters, temp = o.temp, probability = o.xtc_probability,
          random = std::make_shared<Random>(o.seed)](const mx::array& logits) {
    auto chosen = draws(*random, logits.size() / size_t(logits.shape(-1)), probability);
    if (by_kernels()) return ops::sample(logits, filters, temp, std::move(chosen));
    return stock::sample(logits, *filters, temp, chosen, mx::random::key(random->bits()));
  };
}

mx::array apply_top_p(const mx::array& logits, float top_p) {
  SamplerOptions{.top_p = top_p}.validate();
  if (top_p == 0 || top_p == 1) return logits;
  return by_kernels() ? ops::filter(logits, {.top_p = top_p}) : stock::top_p(stock::cleaned(logits), top_p);
}

mx::array apply_min_p(const mx::array& logits, float min_p, int min_tokens_to_keep) {
  SamplerOptions{.min_p = min_p, .min_tokens_to_keep = min_tokens_to_keep}.validate();
  if (min_p == 0) return logits;
  return by_kernels() ? ops::filter(logits, {.min_p = min_p, .min_tokens_to_keep = min_tokens_to_keep})
                      : stock::min_p(stock::cleaned(logits), min_p, min_tokens_to_keep);
}

mx::array apply_top_k(const mx::array& logits, int top_k) {
  SamplerOptions{.top_k = top_k}.validate();
  if (top_k == 0) return logits;
  return by_kernels() ? ops::filter(logits, {.top_k = top_k}) : stock::top_k(stock::cleaned(logits), top_k);
}

mx::array apply_xtc(const mx::array& logits, float threshold, const std::vector<int>& special_tokens) {
  SamplerOptions{.xtc_threshold = threshold}.validate();
  const auto spared = ascending(special_tokens);
  return by_kernels() ? ops::filter(logits, {.xtc_threshold = threshold, .xtc_spared = spared}, /* xtc */ true)
                      : stock::xtc(stock::cleaned(logits), threshold, spared);
}

}  // namespace mlx_lm::sample
