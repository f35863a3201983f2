#include "mlx_lm/base/error.h"

#include "tests/kernels/products.h"

namespace mlx_lm::kernels {
namespace {

// A random quantized matrix in MLX's form and, in float64, what it stands for.
struct Quantized {
  Quantized(int rows, int cols, int bits, int group, Type type, int seed = 1)
      : rows(rows),
        cols(cols),
        bits(bits),
        group(group),
        words(static_cast<size_t>(rows) * cols * bits / 32),
        scales(random_numbers(static_cast<size_t>(rows) * cols / group, seed, 0.01f), type),
        biases(random_numbers(static_cast<size_t>(rows) * cols / group, seed + 1, 0.1f), type) {
    std::mt19937 engine(seed + 2);
    for (size_t i = 0; i < static_cast<size_t>(rows) * cols; ++i) {
      // Rows of the largest code only: where 16-bit sums would overflow.
      const uint32_t code = i / cols % 3 == 2 ? (1u << bits) - 1 : engine() & ((1u << bits) - 1);
      codes.push_back(code);
      const size_t row = i / cols, bit = i % cols * bits, word = row * (cols * bits / 32) + bit / 32;
      words[word] |= code << bit % 32;
      if (bit % 32 + bits > 32) words[word + 1] |= code >> (32 - bit % 32);
    }
  }
  AffineSource source() const {
    return {.rows = rows,
            .cols = cols,
            .bits = bits,
            .group_size = group,
            .weight = words.data(),
            .scales = scales.data(),
            .biases = biases.data(),
            .type = scales.type()};
  }
  double at(int r, int c) const {
    const size_t g = (static_cast<size_t>(r) * cols + c) / group;
    return static_cast<double>(scales[g]) * codes[static_cast<size_t>(r) * cols + c] + biases[g];
  }
  std::vector<double> product(const std::vector<float>& x, int n) const {
    std::vector<double> y(static_cast<size_t>(n) * rows);
    for (int i = 0; i < n; ++i) {
      for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < cols; ++c) y[static_cast<size_t>(i) * rows + r] += at(r, c) * x[i * cols + c];
      }
    }
    return y;
  }

  int rows, cols, bits, group;
  std::vector<uint32_t> words, codes;
  Stored scales, biases;
};

TEST(Packed, EveryKind) {
  const int rows = 21;
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    for (int group : {32, 64, 128}) {
      for (Type type : kTypes) {
        SCOPED_TRACE(fmt::format("bits {} group {} {}", bits, group, name_of(type)));
        const int cols = 3 * group + (group == 32 ? 64 : 0);
        const Quantized q(rows, cols, bits, group, type);
        for (int n : {1, 2, 3, 5, 17}) {
          SCOPED_TRACE(n);
          const auto x = random_numbers(static_cast<size_t>(n) * cols, n);
          const auto exact = q.product(x, n), of_rounded = q.product(rounded(x), n);
          const auto of_rounded16 = q.product(rounded(x, 32767), n);
          under_every_set([&] {
            const auto matrix = pack(q.source());
            {
              Activated mode(Activations::float32);
              expect_near(run(*matrix, x, n, rows), exact, 1e-5 * (1 + largest(exact)));
            }
            {
              Activated mode(Activations::int16);
              expect_near(run(*matrix, x, n, rows), of_rounded16, 1e-5 * (1 + largest(exact)));
            }
            Activated mode(Activations::int8);
            expect_near(run(*matrix, x, n, rows), of_rounded, 1e-5 * (1 + largest(exact)));
          });
        }
      }
    }
  }
}

TEST(Packed, LongRowsAndManyBlocks) {
  // More columns than are unpacked at a time, more rows of x than are multiplied together.
  for (int bits : {4, 8}) {
    const Quantized q(75, 2336, bits, 32, Type::f16);
    const int n = 101;
    const auto x = random_numbers(static_cast<size_t>(n) * q.cols, 3);
    const auto exact = q.product(x, n), of_rounded = q.product(rounded(x), n);
    under_every_set([&] {
      const auto matrix = pack(q.source());
      for (auto [mode, expected] : {std::pair(Activations::int8, &of_rounded), std::pair(Activations::int16, &exact),
                                    std::pair(Activations::float32, &exact)}) {
        Activated activated(mode);
        // 16 bits: half a step of 1/32767 per product, of random sign.
        expect_near(run(*matrix, x, n, q.rows), *expected,
                    (mode == Activations::int16 ? 2e-5 : 1e-5) * (1 + largest(exact)));
      }
    });
  }
}

TEST(Packed, LargestActivationsDoNotOverflow) {
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    Quantized q(9, 128, bits, 64, Type::f32);
    for (float sign : {1.f, -1.f}) {
      const std::vector<float> x(5 * 128, sign * 127);
      const auto exact = q.product(x, 5);
      under_every_set([&] {
        const auto matrix = pack(q.source());
        for (auto mode : {Activations::int8, Activations::int16}) {
          Activated activated(mode);
          for (int n : {1, 5}) {
            const std::vector<double> expected(exact.begin(), exact.begin() + n * 9);
            expect_near(run(*matrix, x, n, 9), expected, 1e-5 * (1 + largest(exact)));
          }
        }
      });
    }
  }
}

TEST(Packed, ARowDoesNotDependOnItsNeighbours) {
  for (int bits : {4, 5, 6, 8}) {
    const Quantized q(40, 320, bits, 64, Type::bf16);
    const auto x = random_numbers(static_cast<size_t>(23) * q.cols, 4);
    for (auto mode : {Activations::int8, Activations::int16, Activations::float32}) {
      Activated activated(mode);
      under_every_set([&] {
        const auto matrix = pack(q.source());
        const auto all = run(*matrix, x, 23, q.rows);
        for (int i = 0; i < 23; ++i) {
          const auto alone = run(*matrix, {x.begin() + i * q.cols, x.begin() + (i + 1) * q.cols}, 1, q.rows);
          EXPECT_EQ(std::memcmp(alone.data(), &all[i * q.rows], alone.size() * 4), 0) << i;
        }
      });
    }
  }
}

TEST(Packed, AnyNumberOfThreads) {
  const Quantized q(333, 512, 4, 32, Type::f16);
  const auto x = random_numbers(static_cast<size_t>(300) * q.cols, 5);
  for (auto mode : {Activations::int8, Activations::int16, Activations::float32}) {
    Activated activated(mode);
    for (int n : {1, 300}) {
      expect_same_for_any_threads([&] { return run(*pack(q.source()), x, n, q.rows); });
    }
  }
}

TEST(Packed, TakesRows) {
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    const Quantized q(19, 128, bits, 64, Type::f16);
    const int32_t ids[] = {18, 0, 7, 7, 8, 15, 16, 3, 2, 1};
    under_every_set([&] {
      std::vector<float> out(std::size(ids) * q.cols);
      pack(q.source())->take_rows(ids, std::size(ids), out.data());
      std::vector<double> expected;
      for (int id : ids) {
        for (int c = 0; c < q.cols; ++c) expected.push_back(q.at(id, c));
      }
      expect_near(out, expected, 1e-6);
    });
  }
}

TEST(Packed, ZeroAndHugeActivations) {
  const Quantized q(8, 64, 4, 32, Type::f16);
  std::vector<float> x(64, 0.f);
  for (auto mode : {Activations::int8, Activations::int16}) {
    Activated activated(mode);
    under_every_set([&] {
      expect_near(run(*pack(q.source()), x, 1, 8), std::vector<double>(8), 0);
      std::vector<float> huge = x;
      huge[3] = 1e30f;
      expect_near(run(*pack(q.source()), huge, 1, 8), q.product(huge, 1), 1e24);
    });
  }
}

TEST(Packed, BadShapes) {
  Quantized q(8, 64, 4, 32, Type::f16);
  AffineSource source = q.source();
  source.bits = 7;
  EXPECT_THROW(pack(source), RequestError);
  source = q.source();
  source.group_size = 128;
  EXPECT_THROW(pack(source), RequestError);
}

TEST(Packed, SizeInMemory) {
  // 4 bits and two float16 numbers per 32: 5 bits a weight.
  EXPECT_EQ(pack(Quantized(16, 64, 4, 32, Type::f16).source())->nbytes(), 16u * 64 * 5 / 8);
}

}  // namespace
}  // namespace mlx_lm::kernels
