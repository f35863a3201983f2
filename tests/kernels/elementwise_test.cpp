#include <cstdlib>
#include <string>

#include "mlx_lm/base/error.h"

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

TEST(RmsNorm, Sizes) {
  for (int size : {1, 7, 8, 15, 16, 33, 576}) {
    for (int n : {1, 2, 9}) {
      const auto x = random_numbers(static_cast<size_t>(n) * size, size, 3), weight = random_numbers(size, 2);
      std::vector<double> expected;
      for (int i = 0; i < n; ++i) {
        double sum = 0;
        for (int k = 0; k < size; ++k) sum += static_cast<double>(x[i * size + k]) * x[i * size + k];
        for (int k = 0; k < size; ++k) {
          expected.push_back(x[i * size + k] / std::sqrt(sum / size + 1e-5) * weight[k]);
        }
      }
      under_every_set([&] {
        std::vector<float> out(x.size());
        rms_norm(x.data(), weight.data(), n, size, 1e-5f, out.data());
        expect_near(out, expected, 1e-5);
      });
    }
  }
}

TEST(Swiglu, SizesAndExtremes) {
  for (size_t n : {1, 5, 8, 17, 10000}) {
    auto gate = random_numbers(n, 1, 5), up = random_numbers(n, 2);
    if (n == 17) {
      const float extremes[] = {0, -0.f, 1e-30f, 88, -88, 90, -90, 1000, -1000, 3e38f, -3e38f};
      std::copy(std::begin(extremes), std::end(extremes), gate.begin());
      std::fill(up.begin(), up.end(), 1.f);
    }
    std::vector<double> expected(n);
    for (size_t i = 0; i < n; ++i) {
      expected[i] = static_cast<double>(gate[i]) / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i];
    }
    under_every_set([&] {
      std::vector<float> out(n), in_place = gate;
      swiglu(gate.data(), up.data(), n, out.data());
      for (size_t i = 0; i < n; ++i) EXPECT_NEAR(out[i], expected[i], 1e-6 * std::fabs(expected[i]) + 1e-30) << gate[i];
      swiglu(in_place.data(), up.data(), n, in_place.data());
      EXPECT_EQ(in_place, out);
    });
  }
}

TEST(Exp, WithinTwoUlp) {
  std::vector<float> x;
  for (float v = -90; v <= 0; v += 0.0007f) x.push_back(v);
  under_every_set([&] {
    std::vector<float> found = x;
    const float sum = table().exp_sum(found.data(), static_cast<int>(x.size()), 0.f);
    double expected_sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = std::exp(static_cast<double>(x[i]));
      expected_sum += expected;
      // Below the smallest normal number a zero will do.
      ASSERT_NEAR(found[i], expected, std::max(expected * 2 * 0x1p-23, 1.2e-38)) << x[i];
    }
    EXPECT_NEAR(sum, expected_sum, expected_sum * 1e-5);
  });
}

void check_rope(const RopeArgs& args, const std::vector<float>& rates) {
  const size_t n = static_cast<size_t>(args.batch) * args.length * args.heads * args.head_dim;
  const auto x = random_numbers(n, 1);
  std::vector<double> expected(x.begin(), x.end());
  for (size_t head = 0; head < n / args.head_dim; ++head) {
    const double position = args.offset + static_cast<int>(head / args.heads % args.length);
    for (int i = 0; i < args.dims / 2; ++i) {
      const size_t a = head * args.head_dim + (args.traditional ? 2 * i : i),
                   b = a + (args.traditional ? 1 : args.dims / 2);
      const long double angle = static_cast<long double>(position) * rates[i];
      const double s = std::sin(angle) * args.magnitude, c = std::cos(angle) * args.magnitude;
      expected[a] = x[a] * c - x[b] * s;
      expected[b] = x[a] * s + x[b] * c;
    }
  }
  std::vector<float> out(n), in_place = x;
  rope(x.data(), args, out.data());
  expect_near(out, expected, 2e-6);
  rope(in_place.data(), args, in_place.data());
  EXPECT_EQ(in_place, out);
}

TEST(Rope, Kinds) {
  for (bool traditional : {false, true}) {
    for (int dims : {2, 20, 32}) {
      for (int offset : {0, 7, 100000, 1000000}) {
        std::vector<float> rates;
        for (int i = 0; i < dims / 2; ++i) rates.push_back(std::pow(10000.f, -2.f * i / dims));
        check_rope({.batch = 2,
                    .length = 11,
                    .heads = 3,
                    .head_dim = 32,
                    .dims = dims,
                    .traditional = traditional,
                    .rates = rates.data(),
                    .magnitude = offset == 7 ? 1.5f : 1.f,
                    .offset = offset},
                   rates);
      }
    }
  }
}

TEST(WriteRows, EveryType) {
  const int batch = 2, length = 9, heads = 3, dim = 20, capacity = 16, position = 5;
  const auto rows = random_numbers(static_cast<size_t>(batch) * length * heads * dim, 1);
  for (Type type : kTypes) {
    under_every_set([&] {
      const std::vector<float> before(static_cast<size_t>(batch) * heads * capacity * dim, 7.f);
      Stored buffer(before, type);
      write_rows(rows.data(), batch, length, heads, dim, buffer.data(), type, capacity, position);
      for (int i = 0; i < batch * heads * capacity * dim; ++i) {
        const int d = i % dim, c = i / dim % capacity, k = i / dim / capacity % heads, b = i / dim / capacity / heads;
        float expected = 7;
        if (c >= position && c < position + length) {
          expected = rows[((static_cast<size_t>(b) * length + c - position) * heads + k) * dim + d];
          store_number(expected, type, &expected, 0);
          expected = load_number(type, &expected, 0);
        }
        ASSERT_EQ(buffer[i], expected) << i;
      }
    });
  }
}

TEST(Elementwise, AnyNumberOfThreads) {
  const auto x = random_numbers(100 * 576, 1), weight = random_numbers(576, 2);
  const auto up = random_numbers(x.size(), 3);
  expect_same_for_any_threads([&] {
    std::vector<float> out(x.size());
    rms_norm(x.data(), weight.data(), 100, 576, 1e-5f, out.data());
    swiglu(out.data(), up.data(), out.size(), out.data());
    return out;
  });
}

// What is chosen when MLX_LM_CPU is `value`, or the error's text.
std::string chosen(const char* value) {
  const char* before = std::getenv("MLX_LM_CPU");
  const std::string kept = before == nullptr ? "" : before;
  setenv("MLX_LM_CPU", value, 1);
  use_table(nullptr);  // chosen anew at the next call
  std::string found;
  try {
    found = instruction_set();
  } catch (const RequestError& error) {
    found = error.what();
  }
  setenv("MLX_LM_CPU", kept.c_str(), 1);
  use_table(nullptr);
  return found;
}

TEST(InstructionSet, FromTheEnvironment) {
  EXPECT_EQ(chosen("scalar"), "scalar");
  for (const char* name : kSets) {
    if (table_for(name)) {
      EXPECT_EQ(chosen(name), name);
    } else {
      EXPECT_NE(chosen(name).find(fmt::format("found '{}'", name)), std::string::npos);
    }
  }
  const std::string error = chosen("sse9");
  EXPECT_NE(error.find("MLX_LM_CPU: expected one of "), std::string::npos) << error;
  EXPECT_NE(error.find("scalar on this processor, found 'sse9'"), std::string::npos) << error;
}

// The last of the sets that this processor can run; on an emulated one, that which it must be.
TEST(InstructionSet, IsTheBest) {
  std::string best;
  for (const char* name : kSets) {
    if (table_for(name)) best = name;
  }
  EXPECT_EQ(chosen(""), best);
  if (const char* expected = std::getenv("MLX_LM_TEST_BEST_SET")) {
    EXPECT_EQ(best, expected);
  }
}

}  // namespace
}  // namespace mlx_lm::kernels
