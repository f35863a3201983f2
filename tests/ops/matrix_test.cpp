// Every form of a weight, by our kernels and by MLX, against its dequantized rows in float32.
#include "mlx_lm/ops/matrix.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/products.h"

namespace mlx_lm::ops {
namespace {

mx::array random(const mx::Shape& shape, mx::Dtype dtype = mx::float32, int seed = 0) {
  return mx::astype(mx::random::normal(shape, mx::float32, mx::random::key(seed)), dtype);
}

float difference(const mx::array& a, const mx::array& b) {
  return mx::max(mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32))).item<float>();
}

class MatrixTest : public testing::Test {
 protected:
  void SetUp() override { kernels::set_activations(kernels::Activations::float32); }
  void TearDown() override {
    kernels::set_activations(before_);
    set_backend(Backend::kernels);
  }

  const kernels::Activations before_ = kernels::activations();

  // weight: its values in float32, (rows, cols).
  void expect_holds(const Matrix& m, const mx::array& weight, float tolerance, const std::string& what) {
    const int rows = weight.shape(0), cols = weight.shape(1);
    EXPECT_EQ(m.rows(), rows);
    EXPECT_EQ(m.cols(), cols);
    const auto ids = mx::array({rows - 1, 0, rows / 2, 0}, {2, 2});
    const auto taken = take_rows(m, ids);
    EXPECT_EQ(taken.shape(), (mx::Shape{2, 2, cols})) << what;
    EXPECT_LE(difference(taken, mx::take(weight, ids, 0)), tolerance * 0.02f) << what;
    for (const mx::Shape& shape : {mx::Shape{1, 1, cols}, {3, cols}, {2, 5, cols}, {1, 70, cols}}) {
      const auto x = mx::astype(random(shape, mx::float32, 3), backend() == Backend::mlx ? m.dtype() : mx::float32);
      const auto y = matmul(x, m);
      const auto wanted = mx::matmul(mx::astype(x, mx::float32), mx::transpose(weight));
      EXPECT_EQ(y.shape(), wanted.shape()) << what;
      EXPECT_LE(difference(y, wanted), tolerance) << what << ", " << x.size() / size_t(cols) << " rows";
    }
  }
};

TEST_F(MatrixTest, dense) {
  for (auto dtype : {mx::float32, mx::float16, mx::bfloat16}) {
    for (auto [rows, cols] : {std::pair(1, 1), {7, 33}, {64, 48}, {130, 257}}) {
      const auto w = random({rows, cols}, dtype), exact = mx::astype(w, mx::float32);
      const auto what = fmt::format("{} bytes, {} x {}", dtype.size(), rows, cols);
      set_backend(Backend::kernels);
      const auto m = Matrix::dense(w);
      EXPECT_EQ(m.dtype(), dtype);
      expect_holds(m, exact, 2e-4f, what);
      // As a transpose and as a part of a larger array.
      expect_holds(Matrix::dense(mx::transpose(mx::contiguous(mx::transpose(w)))), exact, 2e-4f, what);
      const auto larger = mx::concatenate({w, w}, 1);
      expect_holds(Matrix::dense(mx::slice(larger, {0, cols}, {rows, 2 * cols})), exact, 2e-4f, what);
      set_backend(Backend::mlx);
      expect_holds(Matrix::dense(w), exact, dtype == mx::float32 ? 2e-4f : dtype == mx::float16 ? 0.1f : 0.5f, what);
    }
  }
}

TEST_F(MatrixTest, affine) {
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    for (int group : {32, 64, 128}) {
      for (auto dtype : {mx::float32, mx::float16, mx::bfloat16}) {
        for (int rows : {5, 48}) {
          const int cols = 256;
          auto parts = mx::quantize(random({rows, cols}, dtype), group, bits);
          const auto exact = mx::dequantize(parts[0], mx::astype(parts[1], mx::float32),
                                            mx::astype(parts[2], mx::float32), group, bits);
          const auto what = fmt::format("{} bits, groups of {}, {} bytes, {} rows", bits, group, dtype.size(), rows);
          for (auto backend : {Backend::kernels, Backend::mlx}) {
            set_backend(backend);
            const auto m = Matrix::quantized(parts[0], parts[1], parts[2], {group, bits, "affine"});
            EXPECT_EQ(m.dtype(), dtype);
            // MLX itself computes in the half types, bfloat16 coarsely.
            const bool exactly = backend == Backend::kernels || dtype == mx::float32;
            expect_holds(m, exact, exactly ? 5e-4f : dtype == mx::float16 ? 0.6f : 5.f, what);
          }
        }
      }
    }
  }
}

TEST_F(MatrixTest, affine_with_rounded_activations) {
  auto parts = mx::quantize(random({96, 512}), 64, 4);
  const auto m = Matrix::quantized(parts[0], parts[1], parts[2], {64, 4, "affine"});
  const auto exact = mx::dequantize(parts[0], parts[1], parts[2], 64, 4);
  for (auto activations : {kernels::Activations::int8, kernels::Activations::int16}) {
    kernels::set_activations(activations);
    const bool coarse = activations == kernels::Activations::int8;
    for (int n : {1, 3, 40}) {
      const auto x = random({n, 512}, mx::float32, 5);
      const auto error = matmul(x, m) - mx::matmul(x, mx::transpose(exact));
      // Outputs have a spread of sqrt(512), about 23; rounding to 1/127 of a group's largest number gives about 1 %.
      const float rms = mx::sqrt(mx::mean(mx::square(error))).item<float>();
      EXPECT_GT(rms, coarse ? 0.01f : 0.f) << "not rounded at all";
      EXPECT_LT(rms, coarse ? 0.35f : 0.002f) << n;
    }
  }
}

TEST_F(MatrixTest, mx_and_nv_kinds) {
  for (const Quantization& q :
       {Quantization{32, 4, "mxfp4"}, Quantization{32, 8, "mxfp8"}, Quantization{16, 4, "nvfp4"}}) {
    for (int rows : {5, 48}) {
      auto parts = mx::quantize(random({rows, 128}), q.group_size, q.bits, q.mode);
      const auto exact = mx::astype(
          mx::dequantize(parts[0], parts[1], std::nullopt, q.group_size, q.bits, q.mode, std::nullopt, mx::float32),
          mx::float32);
      for (auto backend : {Backend::kernels, Backend::mlx}) {
        set_backend(backend);
        const auto m = Matrix::quantized(parts[0], parts[1], std::nullopt, q);
        EXPECT_EQ(m.dtype(), mx::bfloat16);
        expect_holds(m, exact, backend == Backend::kernels ? 2e-4f : 1.f, q.mode);
      }
    }
  }
}

// Rows taken are MLX's dequantized ones bit by bit, whatever the bytes are.
TEST_F(MatrixTest, mx_and_nv_kinds_dequantize_as_mlx) {
  for (const Quantization& q :
       {Quantization{32, 4, "mxfp4"}, Quantization{32, 8, "mxfp8"}, Quantization{16, 4, "nvfp4"}}) {
    const int rows = 256, cols = 1024;
    const auto words = mx::random::bits({rows, cols * q.bits / 32}, 4, mx::random::key(1));
    // Row r has scale r.
    const auto scales = mx::contiguous(
        mx::broadcast_to(mx::reshape(mx::astype(mx::arange(rows), mx::uint8), {rows, 1}), {rows, cols / q.group_size}));
    const auto expected =
        mx::dequantize(words, scales, std::nullopt, q.group_size, q.bits, q.mode, std::nullopt, mx::float32);
    const auto m = Matrix::quantized(words, scales, std::nullopt, q);
    const auto found = take_rows(m, mx::arange(rows));
    const auto bits = [](const mx::array& x) {
      return mx::where(mx::isnan(x), mx::array(0x7fc00000, mx::int32), mx::view(x, mx::int32));
    };
    EXPECT_TRUE(mx::array_equal(bits(found), bits(expected)).item<bool>()) << q.mode;
  }
}

TEST_F(MatrixTest, takes_any_type_and_layout_of_input) {
  const auto w = random({12, 32});
  const auto m = Matrix::dense(w);
  const auto x = random({4, 32}, mx::float16);
  const auto wanted = mx::matmul(mx::astype(x, mx::float32), mx::transpose(w));
  EXPECT_LT(difference(matmul(x, m), wanted), 1e-4);
  EXPECT_LT(difference(matmul(mx::astype(x, mx::bfloat16), m), wanted), 0.2);
  EXPECT_LT(difference(matmul(mx::transpose(mx::contiguous(mx::transpose(x))), m), wanted), 1e-4);
  EXPECT_LT(difference(take_rows(m, mx::array({3, 1}, mx::uint32)), mx::take(w, mx::array({3, 1}), 0)), 1e-6);
  EXPECT_LT(difference(take_rows(m, mx::slice(mx::arange(8), {0}, {8}, {3})), mx::take(w, mx::array({0, 3, 6}), 0)),
            1e-6);
}

TEST_F(MatrixTest, outlives_its_arrays_and_copies_share) {
  std::optional<Matrix> m;
  const auto x = random({1, 64});
  std::optional<mx::array> before;
  {
    auto parts = mx::quantize(random({32, 64}), 32, 4);
    m = Matrix::quantized(parts[0], parts[1], parts[2], {32, 4, "affine"});
    before = matmul(x, *m);
    before->eval();
  }
  const Matrix copy = *m;
  m.reset();
  mx::clear_cache();
  EXPECT_EQ(difference(matmul(x, copy), *before), 0);
  auto pending = [&] {
    const Matrix shortlived = copy;
    return matmul(x, shortlived);
  }();
  EXPECT_EQ(difference(pending, *before), 0) << "a lazy product keeps its matrix";
}

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const WeightError& error) {
    return error.what();
  }
  return "nothing thrown";
}

class HostileQuantization : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override { set_backend(GetParam()); }
  void TearDown() override { set_backend(Backend::kernels); }
};

TEST_P(HostileQuantization, is_refused) {
  const auto parts = mx::quantize(random({8, 128}), 64, 4);
  const auto with = [&](Quantization q) {
    return refusal([&] { Matrix::quantized(parts[0], parts[1], parts[2], q); });
  };
  EXPECT_EQ(with({64, 4, "affine"}), "nothing thrown");
  EXPECT_EQ(with({64, 7, "affine"}),
            "expected groups of 32, 64 or 128 and 2, 3, 4, 5, 6 or 8 bits, or mxfp4, mxfp8, nvfp4; found 7 bits in "
            "groups of 64, affine");
  for (const Quantization& q : std::vector<Quantization>{{64, 0, "affine"},
                                                         {64, -4, "affine"},
                                                         {64, 1, "affine"},
                                                         {64, 16, "affine"},
                                                         {0, 4, "affine"},
                                                         {-64, 4, "affine"},
                                                         {16, 4, "affine"},
                                                         {48, 4, "affine"},
                                                         {64, 4, "mxfp4"},
                                                         {32, 8, "mxfp4"},
                                                         {32, 4, "mxfp8"},
                                                         {32, 4, "nvfp4"},
                                                         {64, 4, "magic"},
                                                         {64, 4, ""}}) {
    EXPECT_TRUE(with(q).starts_with("expected groups of")) << q.group_size << " " << q.bits << " " << q.mode;
  }
  EXPECT_EQ(with({128, 6, "affine"}), "expected columns in groups of 128, found 85 columns");
  EXPECT_EQ(with({32, 4, "affine"}), "scales: expected shape (8, 4), found (8, 2)");
  EXPECT_EQ(with({32, 4, "mxfp4"}), "scales: expected shape (8, 4), found (8, 2)");
}

TEST_P(HostileQuantization, nvfp4_of_an_odd_number_of_groups) {
  const auto parts = mx::quantize(random({8, 48}), 16, 4, "nvfp4");
  EXPECT_EQ(
      refusal([&] {
        Matrix::quantized(parts[0], parts[1], std::nullopt, {16, 4, "nvfp4"});
      }),
      GetParam() == Backend::mlx ? "nothing thrown" : "expected columns in groups of 32 on the CPU, found 48 columns");
}

TEST_P(HostileQuantization, parts_are_checked) {
  const Quantization q;
  const auto parts = mx::quantize(random({8, 128}), 64, 4);
  const auto with = [&](mx::array w, mx::array s, std::optional<mx::array> b, const Quantization& q) {
    return refusal([&] { Matrix::quantized(w, s, b, q); });
  };
  EXPECT_EQ(with(parts[0], parts[1], std::nullopt, q), "biases: expected a tensor beside the scales, found nothing");
  EXPECT_EQ(with(mx::astype(parts[0], mx::int32), parts[1], parts[2], q),
            "weight: its type of number does not fit the quantization");
  EXPECT_EQ(with(parts[0], mx::zeros({8, 2}, mx::uint8), parts[2], q),
            "scales: its type of number does not fit the quantization");
  EXPECT_EQ(with(parts[0], parts[1], mx::astype(parts[2], mx::bfloat16), q),
            "biases: its type of number does not fit the quantization");
  EXPECT_EQ(with(parts[0], parts[1], mx::zeros({2, 8}), q), "biases: expected shape (8, 2), found (2, 8)");
  const auto mx4 = mx::quantize(random({8, 128}), 32, 4, "mxfp4");
  EXPECT_EQ(with(mx4[0], mx4[1], mx4[1], {32, 4, "mxfp4"}), "biases: expected none for mxfp4, found a tensor");
  EXPECT_EQ(with(mx4[0], mx::zeros({8, 4}), std::nullopt, {32, 4, "mxfp4"}),
            "scales: its type of number does not fit the quantization");
}

INSTANTIATE_TEST_SUITE_P(Backends, HostileQuantization, testing::Values(Backend::kernels, Backend::mlx),
                         [](const auto& info) { return info.param == Backend::kernels ? "kernels" : "mlx"; });

}  // namespace
}  // namespace mlx_lm::ops
