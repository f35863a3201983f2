// Matrices of mxfp4, mxfp8 and nvfp4, against float64 loops over values that are computed apart from the kernels.
#include "mlx_lm/base/error.h"

#include "tests/kernels/products.h"

namespace mlx_lm::kernels {
namespace {

constexpr Format kFormats[] = {Format::mxfp4, Format::mxfp8, Format::nvfp4};

std::string name_of(Format format) {
  return format == Format::mxfp4 ? "mxfp4" : format == Format::mxfp8 ? "mxfp8" : "nvfp4";
}

double value_of_e4m3(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  if ((code & 127) == 127) return NAN;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return code & 128 ? -magnitude : magnitude;
}

double value_of_e2m1(int code) {
  constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -kValues[code & 7] : kValues[code & 7];
}

// A random matrix in MLX's form and, in float64, what it stands for.
struct Floats {
  Floats(Format format, int rows, int cols, int seed = 1)
      : format(format), rows(rows), cols(cols), bytes(static_cast<size_t>(rows) * cols / codes_in_a_byte()) {
    std::mt19937 engine(seed);
    for (size_t i = 0; i < bytes.size(); ++i) {
      // Some rows of the largest code only: where sums would overflow.
      const int row = static_cast<int>(i * codes_in_a_byte() / cols);
      bytes[i] = row % 4 == 2 ? (is8() ? 0x7e : 0x77) : row % 4 == 3 ? (is8() ? 0xfe : 0xff) : engine();
      if (is8() && (bytes[i] & 127) == 127) bytes[i] ^= 1;
    }
    for (size_t i = 0; i < static_cast<size_t>(rows) * cols / group(); ++i) {
      scales.push_back(format == Format::nvfp4 ? engine() % 126 | (engine() & 128) : 110 + engine() % 20);
    }
  }

  bool is8() const { return format == Format::mxfp8; }
  int codes_in_a_byte() const { return is8() ? 1 : 2; }
  int group() const { return format == Format::nvfp4 ? 16 : 32; }

  FloatSource source() const {
    return {.format = format,
            .rows = rows,
            .cols = cols,
            .weight = reinterpret_cast<const uint32_t*>(bytes.data()),
            .scales = scales.data()};
  }
  double at(int r, int c) const {
    const size_t i = static_cast<size_t>(r) * cols + c;
    const int scale = scales[i / group()];
    const double factor = format == Format::nvfp4 ? value_of_e4m3(scale)
                          : scale == 255          ? INFINITY
                                                  : std::ldexp(1., scale - 127);
    return factor * (is8() ? value_of_e4m3(bytes[i]) : value_of_e2m1(bytes[i / 2] >> i % 2 * 4 & 15));
  }
  std::vector<double> product(const std::vector<float>& x, int n) const {
    std::vector<double> y(static_cast<size_t>(n) * rows);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < cols; ++c) {
        const double weight = at(r, c);
        for (int i = 0; i < n; ++i)
          y[static_cast<size_t>(i) * rows + r] += weight * x[static_cast<size_t>(i) * cols + c];
      }
    }
    return y;
  }

  Format format;
  int rows, cols;
  std::vector<uint8_t> bytes, scales;
};

std::vector<float> seen_by(const Floats& w, const std::vector<float>& x, Activations mode) {
  if (w.format == Format::mxfp8 || mode == Activations::float32) return x;
  return rounded(x, mode == Activations::int8 && w.format != Format::nvfp4 ? 127 : 32767);
}

constexpr Activations kModes[] = {Activations::int8, Activations::int16, Activations::float32};

class PackedFloats : public testing::TestWithParam<Format> {};

TEST_P(PackedFloats, odd_sizes) {
  for (int rows : {1, 7, 8, 21, 40}) {
    for (int cols : {32, 96, 160}) {
      const Floats w(GetParam(), rows, cols);
      for (int n = 1; n <= 17; ++n) {
        SCOPED_TRACE(fmt::format("{} x {}, {} rows", rows, cols, n));
        const auto x = random_numbers(static_cast<size_t>(n) * cols, n);
        for (auto mode : kModes) {
          const auto expected = w.product(seen_by(w, x, mode), n);
          Activated activated(mode);
          under_every_set(
              [&] { expect_near(run(*pack(w.source()), x, n, rows), expected, 1e-6 * (1 + largest(expected))); });
        }
      }
    }
  }
}

TEST_P(PackedFloats, long_rows_and_many_blocks) {
  const Floats w(GetParam(), 75, 2336);
  const int n = 512;
  const auto x = random_numbers(static_cast<size_t>(n) * w.cols, 3);
  for (auto mode : kModes) {
    const auto expected = w.product(seen_by(w, x, mode), n);
    Activated activated(mode);
    under_every_set(
        [&] { expect_near(run(*pack(w.source()), x, n, w.rows), expected, 1e-5 * (1 + largest(expected))); });
  }
}

TEST_P(PackedFloats, largest_activations_do_not_overflow) {
  const Floats w(GetParam(), 9, 128);
  for (float sign : {1.f, -1.f}) {
    const std::vector<float> x(5 * 128, sign * 127);
    const auto exact = w.product(x, 5);
    for (auto mode : kModes) {
      Activated activated(mode);
      under_every_set([&] {
        for (int n : {1, 5}) {
          const std::vector<double> expected(exact.begin(), exact.begin() + n * 9);
          expect_near(run(*pack(w.source()), x, n, 9), expected, 1e-6 * (1 + largest(exact)));
        }
      });
    }
  }
}

TEST_P(PackedFloats, a_row_does_not_depend_on_its_neighbours_or_threads) {
  const Floats w(GetParam(), 45, 1312);
  const auto x = random_numbers(static_cast<size_t>(23) * w.cols, 4);
  for (auto mode : kModes) {
    Activated activated(mode);
    under_every_set([&] {
      const auto matrix = pack(w.source());
      const auto all = run(*matrix, x, 23, w.rows);
      for (int n : {1, 2, 3}) {
        for (int i = 0; i + n <= 23; i += n) {
          const auto some = run(*matrix, {x.begin() + i * w.cols, x.begin() + (i + n) * w.cols}, n, w.rows);
          EXPECT_EQ(std::memcmp(some.data(), &all[i * w.rows], some.size() * 4), 0) << n << " from " << i;
        }
      }
    });
    expect_same_for_any_threads([&] { return run(*pack(w.source()), x, 23, w.rows); });
  }
}

// Every code with every scale, by its bits, in rows taken and in panels.
TEST_P(PackedFloats, dequantizes_every_code_and_scale) {
  Floats w(GetParam(), 256, 256);
  for (int r = 0; r < w.rows; ++r) {
    for (size_t i = 0; i < w.bytes.size() / w.rows; ++i) {
      w.bytes[r * w.bytes.size() / w.rows + i] = w.is8() ? i : (2 * i & 15) | ((2 * i + 1) & 15) << 4;
    }
    for (size_t i = 0; i < w.scales.size() / w.rows; ++i) w.scales[r * w.scales.size() / w.rows + i] = r;
  }
  const auto expect_is = [&](float found, int r, int c) {
    const float expected = static_cast<float>(w.at(r, c));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(found)) << r << " " << c;
    } else {
      ASSERT_EQ(bits_of_float(found), bits_of_float(expected)) << r << " " << c;
    }
  };
  std::vector<int32_t> ids(256);
  for (int i = 0; i < 256; ++i) ids[i] = 255 - i;
  under_every_set([&] {
    const auto matrix = pack(w.source());
    std::vector<float> out(256 * 256), panel(256 * kBlock);
    matrix->take_rows(ids.data(), 256, out.data());
    for (int i = 0; i < 256; ++i) {
      for (int c = 0; c < 256; ++c) ASSERT_NO_FATAL_FAILURE(expect_is(out[i * 256 + c], ids[i], c));
    }
    for (int block = 0; block < 32; ++block) {
      for (int begin : {0, 96}) {
        table_for(matrix->view()).dequantize(matrix->view(), block, begin, 256, panel.data());
        for (int c = begin; c < 256; ++c) {
          for (int r = 0; r < kBlock; ++r) {
            const float taken = out[(255 - block * kBlock - r) * 256 + c], found = panel[(c - begin) * kBlock + r];
            if (std::isnan(taken)) {
              ASSERT_TRUE(std::isnan(found));
            } else {
              ASSERT_EQ(bits_of_float(found), bits_of_float(taken)) << block << " " << r << " " << c;
            }
          }
        }
      }
    }
  });
}

// What is no number stays in its row.
TEST_P(PackedFloats, no_numbers) {
  Floats w(GetParam(), 30, 64);
  for (int r : {0, 11, 29}) {
    if (w.is8()) {
      w.bytes[r * 64 + 37 + r % 3] = r == 11 ? 0xff : 0x7f;
    } else if (w.format == Format::nvfp4) {
      w.scales[r * 4 + 1 + r % 3] = r == 11 ? 0xff : 0x7f;
    } else {
      w.scales[r * 2 + 1] = 255;
      w.bytes[r * 32 + 16] &= 0xf0;  // infinity times zero
    }
  }
  for (int n : {1, 2, 3, 4, 9}) {
    const auto x = random_numbers(static_cast<size_t>(n) * 64, n);
    for (auto mode : kModes) {
      Activated activated(mode);
      under_every_set([&] {
        const auto y = run(*pack(w.source()), x, n, 30);
        for (int i = 0; i < n * 30; ++i) {
          const int r = i % 30;
          if (r != 0 && r != 11 && r != 29) {
            EXPECT_TRUE(std::isfinite(y[i])) << i;
          } else {
            EXPECT_FALSE(std::isfinite(y[i])) << i;
          }
        }
      });
    }
  }
}

TEST_P(PackedFloats, any_bytes_and_activations) {
  Floats w(GetParam(), 19, 96);
  std::mt19937 engine(9);
  for (auto* part : {&w.bytes, &w.scales}) {
    for (auto& byte : *part) byte = engine();
  }
  const auto matrix = pack(w.source());
  for (float hostile : {INFINITY, -INFINITY, NAN, 3e38f, 1e-45f, 0.f}) {
    for (int n : {1, 3, 6}) {
      const std::vector<float> x(static_cast<size_t>(n) * 96, hostile);
      for (auto mode : kModes) {
        Activated activated(mode);
        under_every_set([&] { run(*matrix, x, n, 19); });
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, PackedFloats, testing::ValuesIn(kFormats),
                         [](const auto& info) { return name_of(info.param); });

TEST(PackedFloatsSource, size_in_memory) {
  EXPECT_EQ(pack(Floats(Format::mxfp4, 16, 64).source())->nbytes(), 16u * 64 * 17 / 32);  // 4.25 bits a weight
  EXPECT_EQ(pack(Floats(Format::nvfp4, 16, 64).source())->nbytes(), 16u * 64 * 18 / 32);  // 4.5
  EXPECT_EQ(pack(Floats(Format::mxfp8, 16, 64).source())->nbytes(), 16u * 64 * 33 / 32);  // 8.25
}

TEST(PackedFloatsSource, bad_shapes) {
  const Floats w(Format::mxfp4, 8, 64);
  for (int cols : {0, -32, 31, 48}) {
    FloatSource source = w.source();
    source.cols = cols;
    EXPECT_THROW(pack(source), RequestError) << cols;
  }
  FloatSource source = w.source();
  source.rows = 0;
  EXPECT_THROW(pack(source), RequestError);
  source = w.source();
  source.format = Format::affine;
  EXPECT_THROW(pack(source), RequestError);
}

}  // namespace
}  // namespace mlx_lm::kernels
