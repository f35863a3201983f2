#include "mlx_lm/kernels/low_rank.h"

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

TEST(LowRank, Sizes) {
  for (int size : {1, 7, 64, 1024, 1025, 2600}) {
    for (int rank : {1, 3, 8, 17}) {
      for (int n : {1, 5, 8, 19}) {
        const auto numbers = [n](int count, int seed) { return random_numbers(size_t(n) * size_t(count), seed); };
        const auto y = numbers(size, 1), low = numbers(rank, 2), residual = numbers(size, 3);
        const auto up = random_numbers(size_t(rank) * size_t(size), 4), stretch = random_numbers(size_t(size), 5),
                   bias = random_numbers(size_t(size), 6);
        for (int parts : {0, 1, 2, 4, 7}) {
          std::vector<double> expected;
          for (int i = 0; i < n; ++i) {
            for (int c = 0; c < size; ++c) {
              double value = y[i * size + c];
              for (int k = 0; k < rank; ++k) value += double(low[i * rank + k]) * up[k * size + c];
              if (parts & 1) value *= stretch[c];
              if (parts & 2) value += bias[c];
              if (parts & 4) value += residual[i * size + c];
              expected.push_back(value);
            }
          }
          under_every_set([&] {
            std::vector<float> out(y.size());
            add_low_rank({.n = n,
                          .rank = rank,
                          .size = size,
                          .y = y.data(),
                          .low = low.data(),
                          .up = up.data(),
                          .stretch = parts & 1 ? stretch.data() : nullptr,
                          .bias = parts & 2 ? bias.data() : nullptr,
                          .residual = parts & 4 ? residual.data() : nullptr},
                         out.data());
            expect_near(out, expected, 2e-5);
          });
        }
      }
    }
  }
}

}  // namespace
}  // namespace mlx_lm::kernels
