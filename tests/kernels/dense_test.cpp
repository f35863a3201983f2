#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

std::vector<double> product(const Stored& w, int rows, int cols, const std::vector<float>& x, int n) {
  std::vector<double> y(static_cast<size_t>(n) * rows);
  for (int i = 0; i < n; ++i) {
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < cols; ++c) {
        y[static_cast<size_t>(i) * rows + r] +=
            static_cast<double>(w[static_cast<size_t>(r) * cols + c]) * x[static_cast<size_t>(i) * cols + c];
      }
    }
  }
  return y;
}

std::vector<float> run(const Stored& w, int rows, int cols, const std::vector<float>& x, int n) {
  std::vector<float> y(static_cast<size_t>(n) * rows, NAN);
  matmul(x.data(), n, {rows, cols, w.type(), w.data()}, y.data());
  return y;
}

TEST(Dense, Products) {
  for (Type type : kTypes) {
    for (int rows : {1, 4, 7, 8, 21}) {
      for (int cols : {1, 7, 8, 16, 33, 100, 300}) {
        const Stored w(random_numbers(static_cast<size_t>(rows) * cols, rows + cols), type);
        for (int n : {1, 2, 3, 4, 5, 17}) {
          SCOPED_TRACE(name_of(type) + " " + std::to_string(rows) + " " + std::to_string(cols) + " " +
                       std::to_string(n));
          const auto x = random_numbers(static_cast<size_t>(n) * cols, n);
          const auto expected = product(w, rows, cols, x, n);
          under_every_set([&] { expect_near(run(w, rows, cols, x, n), expected, 1e-6 * (10 + cols / 4)); });
        }
      }
    }
  }
}

TEST(Dense, ManyRows) {
  const int rows = 130, cols = 515, n = 203;
  const Stored w(random_numbers(static_cast<size_t>(rows) * cols, 1), Type::bf16);
  const auto x = random_numbers(static_cast<size_t>(n) * cols, 2);
  const auto expected = product(w, rows, cols, x, n);
  under_every_set([&] { expect_near(run(w, rows, cols, x, n), expected, 1e-4); });
}

TEST(Dense, LongRowsAreSummedInParts) {
  for (int cols : {1536, 1537, 3100, 5000}) {
    for (Type type : kTypes) {
      const int rows = 29, n = 70;
      const Stored w(random_numbers(static_cast<size_t>(rows) * cols, 1), type);
      const auto x = random_numbers(static_cast<size_t>(n) * cols, 2);
      const auto expected = product(w, rows, cols, x, n);
      under_every_set([&] { expect_near(run(w, rows, cols, x, n), expected, 2e-4); });
    }
  }
}

// A row's product has the same bits alone and among others.
TEST(Dense, NeighboursDoNotMatter) {
  for (int cols : {40, 100, 2000}) {
    const int rows = 53, most = 67;
    const Stored w(random_numbers(static_cast<size_t>(rows) * cols, 1), Type::f16);
    const auto x = random_numbers(static_cast<size_t>(most) * cols, 2);
    under_every_set([&] {
      const auto all = run(w, rows, cols, x, most);
      for (int n : {1, 2, 3, 4, 5, 8, 66}) {
        const auto part = run(w, rows, cols, x, n);
        EXPECT_EQ(part, std::vector<float>(all.begin(), all.begin() + static_cast<ptrdiff_t>(n) * rows)) << n;
      }
    });
  }
}

TEST(Dense, AnyNumberOfThreads) {
  const int rows = 1000, cols = 256;
  const Stored w(random_numbers(static_cast<size_t>(rows) * cols, 1), Type::f16);
  for (int n : {1, 100}) {
    const auto x = random_numbers(static_cast<size_t>(n) * cols, 2);
    expect_same_for_any_threads([&] { return run(w, rows, cols, x, n); });
  }
}

TEST(Dense, TakesRows) {
  for (Type type : kTypes) {
    const Stored w(random_numbers(11 * 37, 1), type);
    const int32_t ids[] = {10, 0, 0, 5};
    under_every_set([&] {
      std::vector<float> out(4 * 37);
      take_rows({11, 37, type, w.data()}, ids, 4, out.data());
      for (int i = 0; i < 4; ++i) {
        for (int c = 0; c < 37; ++c) EXPECT_EQ(out[i * 37 + c], w[ids[i] * 37 + c]);
      }
    });
  }
}

// Every half there is, and back.
TEST(Convert, Halves) {
  std::vector<uint16_t> halves(65536);
  for (int i = 0; i < 65536; ++i) halves[i] = static_cast<uint16_t>(i);
  for (Type type : {Type::f16, Type::bf16}) {
    std::vector<float> expected(65536);
    table_for("scalar")->to_float(type, halves.data(), 65536, expected.data());
    under_every_set([&] {
      std::vector<float> found(65536);
      std::vector<uint16_t> back(65536);
      table().to_float(type, halves.data(), 65536, found.data());
      table().from_float(found.data(), 65536, type, back.data());
      for (int i = 0; i < 65536; ++i) {
        if (std::isnan(expected[i])) {
          EXPECT_TRUE(std::isnan(found[i]) && std::isnan(load_number(type, back.data(), i)));
        } else {
          ASSERT_EQ(found[i], expected[i]) << i;
          ASSERT_EQ(back[i], i);
        }
      }
    });
  }
  EXPECT_EQ(float_of_half(0x3c00), 1.f);
  EXPECT_EQ(float_of_half(1), 0x1p-24f);
  EXPECT_EQ(float_of_half(0x7bff), 65504.f);
  EXPECT_EQ(float_of_bfloat(0x3f80), 1.f);
}

TEST(Convert, RoundsToNearestEven) {
  std::vector<float> values = random_numbers(5000, 1);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::ldexp(values[i], static_cast<int>(i % 60) - 35);
  for (float tie : {1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 0x1p-25f, 3 * 0x1p-25f, 65519.9f, 65520.f, 1e9f, -0.f}) {
    values.push_back(tie);
  }
  under_every_set([&] {
    std::vector<uint16_t> found(values.size());
    table().from_float(values.data(), values.size(), Type::f16, found.data());
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(found[i], half_of_float(values[i])) << values[i];
  });
  // Against an independent definition: the neighbour at the smallest distance, even on a tie.
  for (float value : values) {
    const float found = float_of_half(half_of_float(value));
    if (std::isinf(found)) {
      EXPECT_GE(std::fabs(value), 65520.f);
      continue;
    }
    const double step = value == 0 ? 1 : std::max(std::ldexp(1., std::ilogb(value) - 10), 0x1p-24);
    EXPECT_EQ(found, std::nearbyint(value / step) * step) << value;
  }
}

}  // namespace
}  // namespace mlx_lm::kernels
