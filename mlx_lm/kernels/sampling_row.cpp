#include "mlx_lm/kernels/sampling_row.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

namespace mlx_lm::kernels {
namespace {

// The top of a row that is looked through for a nucleus before the whole row is.
constexpr int kTops[] = {64, 512};

// Buckets for numbers by how far they are below the largest: 64 for a difference of 1, up to 32. A NaN goes to the
// last.
constexpr int kBuckets = 2048;
int bucket_of(float most, float value) {
  constexpr float kLast = kBuckets - 1;
  const float bucket = (most - value) * 64.f;
  const float within = bucket < kLast ? bucket : kLast;
  return static_cast<int>(within > 0 ? within : 0);
}

// The order that leaves nothing to chance.
bool before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.place < b.place);
}

// The smallest value that has less than `mass` above it, in a sorted list with its weights; `above` comes before the
// list and is advanced. Equal values come together: all are kept or none.
float last_below(const std::vector<Candidate>& list, const std::vector<float>& weights, double mass, double& above) {
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0 && list[i].value < list[i - 1].value && above >= mass) return list[i - 1].value;
    above += weights[i];
  }
  return list.back().value;
}

bool spared(const Filters& filters, const Candidate& c) {
  return std::binary_search(filters.xtc_spared.begin(), filters.xtc_spared.end(), static_cast<int32_t>(c.place));
}

}  // namespace

float weigh(const float* x, int n, float most, float factor, float floor, float* to) {
  if (floor == kNothing) {
    const bool plain = factor == 1;
    if (plain) std::copy(x, x + n, to);
    for (int i = 0; i < n && !plain; ++i) to[i] = (x[i] - most) * factor;
    const float sum = table().exp_sum(to, n, plain ? most : 0);
    if (sum <= static_cast<float>(n) * 1.001f) return sum;  // all were numbers
  }
  floor = std::max(floor, std::numeric_limits<float>::lowest());
  for (int i = 0; i < n; ++i) {
    const float below = (x[i] - most) * factor;
    const float at_most_0 = below < 0 ? below : 0;  // infinity is the largest float
    to[i] = x[i] >= floor ? at_most_0 : kNothing;   // no NaN is
  }
  return table().exp_sum(to, n, 0);
}

Row::Row(const float* x, int size, const float* most)
    : x_(x), size_(size), most_(most), all_most_(table().max(most, stretches())) {}

// All from the floor to the ceiling, in the order of their places. Never -infinity.
std::vector<Candidate> Row::collect(float floor, float ceiling) const {
  floor = std::max(floor, std::numeric_limits<float>::lowest());
  std::vector<Candidate> found;
  for (int s = 0; s < stretches(); ++s) {
    if (most_[s] < floor) continue;
    // Without a branch, which would often be guessed wrong: a third of the time.
    const float* x = x_ + begin(s);
    int places[kStretch], n = 0;
    for (int i = 0; i < length(s); ++i) {
      places[n] = i;
      n += int{x[i] >= floor} & int{x[i] <= ceiling};
    }
    for (int k = 0; k < n; ++k) {
      found.push_back({cleaned(x[places[k]]), static_cast<uint32_t>(begin(s) + places[k])});
    }
  }
  return found;
}

// At least the n largest, if there are as many, and all that are equal to the last. n stretches have a largest number
// that is no less than the n-th of the stretches' largest, so nothing below that one is among the n largest.
std::vector<Candidate> Row::from_above(int n) const {
  float floor = kNothing;
  if (n <= stretches()) {
    std::vector<float> sorted(most_, most_ + stretches());
    std::nth_element(sorted.begin(), sorted.begin() + (n - 1), sorted.end(), std::greater<>());
    floor = sorted[n - 1];
  }
  return collect(floor);
}

// The n largest, or as many as there are, in order.
std::vector<Candidate> Row::largest(int n) const {
  auto found = from_above(n);
  if (found.size() > static_cast<size_t>(n)) {
    std::nth_element(found.begin(), found.begin() + (n - 1), found.end(), before);
    found.resize(n);
  }
  std::sort(found.begin(), found.end(), before);
  return found;
}

std::vector<float> Row::weights(const std::vector<Candidate>& list) const {
  std::vector<float> w;
  w.reserve(list.size());
  for (const auto& c : list) w.push_back(c.value);
  table().exp_sum(w.data(), static_cast<int>(w.size()), all_most_);
  return w;
}

double Row::mass_from(float floor) const {
  double mass = 0;
  float some[kStretch];
  for (int s = 0; s < stretches(); ++s) {
    if (most_[s] >= floor) mass += weigh(x_ + begin(s), length(s), all_most_, 1, floor, some);
  }
  return mass;
}

// The smallest number that belongs to the likeliest tokens that reach `mass` together; or any, if it is below `least`.
float Row::nucleus(double mass, float least) const {
  for (int top : kTops) {
    auto list = from_above(std::min(top, stretches()));
    if (list.size() > 16u * top) break;  // many equal ones
    std::sort(list.begin(), list.end(), before);
    double above = 0;
    const float floor = last_below(list, weights(list), mass, above);
    if (above >= mass || floor <= least) return floor;
  }
  return nucleus_by_buckets(mass);
}

float Row::nucleus_by_buckets(double mass) const {
  std::array<double, kBuckets> masses{};
  float some[kStretch];
  int buckets[kStretch];
  for (int s = 0; s < stretches(); ++s) {
    const float* x = x_ + begin(s);
    const int n = length(s);
    for (int i = 0; i < n; ++i) buckets[i] = bucket_of(all_most_, x[i]);
    weigh(x, n, all_most_, 1, kNothing, some);
    for (int i = 0; i < n; ++i) masses[buckets[i]] += some[i];
  }
  int bucket = 0;
  double above = 0;
  for (; bucket < kBuckets - 1 && above + masses[bucket] < mass; ++bucket) above += masses[bucket];
  // Its numbers, by bounds that are a little too wide for any rounding.
  const float near = (std::fabs(all_most_) + 32) * 1e-6f;
  const float high = bucket == 0 ? kInfinity : all_most_ - static_cast<float>(bucket) / 64 + near;
  const float low = bucket == kBuckets - 1 ? kNothing : all_most_ - static_cast<float>(bucket + 1) / 64 - near;
  auto list = collect(low, high);
  std::erase_if(list, [&](const Candidate& c) { return bucket_of(all_most_, c.value) != bucket; });
  // Rounding may have led to a bucket that has nothing but zeros.
  if (list.empty()) return kNothing;
  std::sort(list.begin(), list.end(), before);
  return last_below(list, weights(list), mass, above);
}

float Row::min_p_floor(const Filters& f) const { return all_most_ + static_cast<float>(std::log(f.min_p)); }

void Row::apply_min_p(const Filters& f, Kept& kept) const {
  const float floor = min_p_floor(f);
  if (f.min_tokens_to_keep > 1) {
    auto best = largest(std::min(f.min_tokens_to_keep, size_));
    if (best.back().value < floor) {
      std::erase_if(best, [&](const Candidate& c) { return c.value < kept.floor; });
      kept.list = std::move(best);
      kept.listed = true;
      return;
    }
  }
  kept.floor = std::max(kept.floor, floor);
}

// Returns how many may be above the ceiling.
int Row::apply_xtc(const Filters& f, double total, Kept& kept) const {
  if (kept.listed) {
    total = 0;
    for (float w : weights(kept.list)) total += w;
  } else if (kept.floor > kNothing) {
    total = mass_from(kept.floor);
  }
  const double limit = f.xtc_threshold * total;
  // A little below the limit, so that only the weights themselves decide.
  const float near = all_most_ + static_cast<float>(std::log(limit)) - 1e-3f;
  const auto likely = kept.listed ? kept.list : collect(std::max(kept.floor, near));
  const auto likely_weights = weights(likely);
  for (size_t i = 0; i < likely.size(); ++i) {
    if (likely_weights[i] > limit) kept.ceiling = std::min(kept.ceiling, likely[i].value);
  }
  std::erase_if(kept.list, [&](const Candidate& c) { return c.value > kept.ceiling && !spared(f, c); });
  return static_cast<int>(likely.size());
}

Kept Row::keep(const Filters& f, bool xtc, double total) const {
  Kept kept;
  if (all_most_ == kNothing) return kept;
  if (f.top_p > 0 && f.top_p < 1) {
    kept.floor = nucleus(f.top_p * total, f.min_p > 0 && f.min_tokens_to_keep == 1 ? min_p_floor(f) : kNothing);
  }
  if (f.min_p > 0) apply_min_p(f, kept);
  const int above = xtc ? apply_xtc(f, total, kept) : 0;
  if (f.top_k > 0 && f.top_k < size_) {
    if (!kept.listed) {
      kept.list = largest(static_cast<int>(std::min<int64_t>(int64_t{f.top_k} + above, size_)));
      std::erase_if(kept.list, [&](const Candidate& c) {
        return c.value < kept.floor || (c.value > kept.ceiling && !spared(f, c));
      });
      kept.listed = true;
    }
    if (kept.list.size() > static_cast<size_t>(f.top_k)) kept.list.resize(f.top_k);
  }
  return kept;
}

}  // namespace mlx_lm::kernels
