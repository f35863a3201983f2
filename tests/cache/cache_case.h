// Caches that hold numbered tokens, so that a test can ask which of them a step sees.
#pragma once

#include <algorithm>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm::cache {

inline constexpr int kBatch = 2, kHeads = 3, kHeadDim = 5;

// What token `number` stores, exact in float32 and different at every place.
inline float stored(int number, int batch, int head, int i) {
  return float(number) * 64 + float(batch * 32 + head * 8 + i);
}

// Keys of the tokens [first, first + n). Shapes: (B, n, K, D).
inline mx::array numbered(int first, int n, int batch = kBatch) {
  std::vector<float> data;
  for (int b = 0; b < batch; ++b)
    for (int l = 0; l < n; ++l)
      for (int h = 0; h < kHeads; ++h)
        for (int i = 0; i < kHeadDim; ++i) data.push_back(stored(first + l, b, h, i));
  return mx::array(data.data(), {batch, n, kHeads, kHeadDim}, mx::float32);
}

// The numbers of the tokens that query l of the step may see; checks every place of their keys and values.
inline std::set<int> seen(const ops::KVSegment& view, int l, int batch = kBatch) {
  auto keys = mx::contiguous(view.keys.data), values = mx::contiguous(view.values.data);
  mx::eval(keys, values);
  const int capacity = keys.shape(2);
  EXPECT_LE(view.span.length, capacity);
  std::set<int> numbers;
  for (int row = 0; row < view.span.length; ++row) {
    if (row > view.span.start + l) break;
    if (view.span.window > 0 && row <= view.span.start + l - view.span.window) continue;
    const int number = int(keys.data<float>()[size_t(row) * kHeadDim] / 64);
    EXPECT_TRUE(numbers.insert(number).second) << "token " << number << " twice";
    for (int b = 0; b < batch; ++b)
      for (int h = 0; h < kHeads; ++h)
        for (int i = 0; i < kHeadDim; ++i) {
          const size_t at = ((size_t(b) * kHeads + h) * capacity + row) * kHeadDim + i;
          EXPECT_EQ(keys.data<float>()[at], stored(number, b, h, i));
          EXPECT_EQ(values.data<float>()[at], -stored(number, b, h, i));
        }
  }
  return numbers;
}

// Feeds numbered tokens to a cache.
class Feeder {
 public:
  explicit Feeder(KVCache& cache, int window = 0) : cache_(cache), window_(window), next_(cache.offset() + 1) {}
  ops::KVSegment add(int n) {
    auto keys = numbered(next_, n);
    next_ += n;
    return cache_.update(keys, mx::negative(keys), window_).at(0);
  }

 private:
  KVCache& cache_;
  int window_;
  int next_;
};

inline std::set<int> range(int from, int to) {
  std::set<int> numbers;
  for (int i = from; i <= to; ++i) numbers.insert(i);
  return numbers;
}

}  // namespace mlx_lm::cache
