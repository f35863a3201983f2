#include <algorithm>
#include <numeric>

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kSizes[] = {1, 7, 64, 65, 1000, 8191, 8192, 8193, 49152};

// Few values, so that many are equal.
std::vector<float> coarse_numbers(size_t n, int seed) {
  auto x = random_numbers(n, seed, 20);
  for (float& value : x) value = std::round(value);
  return x;
}

TEST(Argmax, FirstOfEqualOnes) {
  for (int size : kSizes) {
    const int n = 3;
    const auto x = coarse_numbers(static_cast<size_t>(n) * size, size);
    under_every_set([&] {
      std::vector<uint32_t> places(n);
      argmax(x.data(), n, size, places.data());
      for (int i = 0; i < n; ++i) {
        const auto row = x.begin() + static_cast<ptrdiff_t>(i) * size;
        EXPECT_EQ(places[i], std::max_element(row, row + size) - row) << size;
      }
    });
  }
}

TEST(Argmax, EveryPlace) {
  std::vector<float> x(100, -INFINITY);
  under_every_set([&] {
    for (uint32_t i = 0; i < 100; ++i) {
      uint32_t place = 1000;
      x[i] = -3e38f;
      argmax(x.data(), 1, 100, &place);
      EXPECT_EQ(place, i);
      x[i] = -INFINITY;
    }
  });
}

TEST(Argmax, PassesOverNaN) {
  for (int size : {5, 40, 9000}) {
    std::vector<float> x(size, NAN);
    under_every_set([&] {
      uint32_t place = 1000;
      argmax(x.data(), 1, size, &place);
      EXPECT_EQ(place, 0u);
      auto other = x;
      other[3] = -1, other[size - 1] = 2;
      argmax(other.data(), 1, size, &place);
      EXPECT_EQ(place, static_cast<uint32_t>(size - 1));
    });
  }
}

TEST(TopK, AsSorted) {
  for (int size : kSizes) {
    for (int k : {1, 2, 40, 1000, 9000}) {
      if (k > size) continue;
      const int n = 2;
      const auto x = size % 2 ? coarse_numbers(static_cast<size_t>(n) * size, k) : random_numbers(n * size, k);
      under_every_set([&] {
        std::vector<float> values(n * k);
        std::vector<uint32_t> places(n * k), order(size);
        top_k(x.data(), n, size, k, values.data(), places.data());
        for (int i = 0; i < n; ++i) {
          const float* row = x.data() + static_cast<size_t>(i) * size;
          std::iota(order.begin(), order.end(), 0u);
          std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return row[a] > row[b]; });
          for (int j = 0; j < k; ++j) {
            ASSERT_EQ(places[i * k + j], order[j]) << size << ' ' << k << ' ' << j;
            ASSERT_EQ(values[i * k + j], row[order[j]]);
          }
        }
      });
    }
  }
}

TEST(TopK, NaNComesLast) {
  const std::vector<float> x = {NAN, 1, NAN, 3, -INFINITY, 2};
  under_every_set([&] {
    float values[5];
    uint32_t places[5];
    top_k(x.data(), 1, 6, 5, values, places);
    EXPECT_EQ(std::vector<uint32_t>(places, places + 5), (std::vector<uint32_t>{3, 5, 1, 0, 2}));
    EXPECT_EQ(values[4], -INFINITY);
  });
}

TEST(TopK, AnyNumberOfThreads) {
  const auto x = coarse_numbers(100000, 1);
  expect_same_for_any_threads([&] {
    std::vector<float> values(50), result;
    std::vector<uint32_t> places(50), best(1);
    top_k(x.data(), 1, 100000, 50, values.data(), places.data());
    argmax(x.data(), 1, 100000, best.data());
    result = values;
    result.insert(result.end(), places.begin(), places.end());
    result.push_back(static_cast<float>(best[0]));
    return result;
  });
}

}  // namespace
}  // namespace mlx_lm::kernels
