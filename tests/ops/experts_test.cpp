// Stacks of expert weights of every form, by our kernels and by MLX, against loops of single products.
#include "mlx_lm/ops/experts.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/backend.h"

namespace mlx_lm::ops {
namespace {

mx::array random(const mx::Shape& shape, mx::Dtype dtype = mx::float32, int seed = 0) {
  return mx::astype(mx::random::normal(shape, mx::float32, mx::random::key(seed)), dtype);
}

constexpr int kExperts = 6, kRows = 40, kCols = 128;

class ExpertsTest : public testing::Test {
 protected:
  void SetUp() override { kernels::set_activations(kernels::Activations::float32); }
  void TearDown() override {
    kernels::set_activations(before_);
    set_backend(Backend::kernels);
  }

  const kernels::Activations before_ = kernels::activations();

  // weight: the values in float32, (experts, rows, cols).
  void expect_holds(const ExpertMatrices& w, const mx::array& weight, float tolerance, const std::string& what) {
    EXPECT_EQ(w.experts(), kExperts);
    EXPECT_EQ(w.rows(), kRows);
    EXPECT_EQ(w.cols(), kCols);
    for (const mx::Shape& shape : {mx::Shape{1, 1, 4}, {2, 3, 2}, {5}, {1, 40, 3}, {200}}) {
      const auto ids = mx::random::randint(0, kExperts, shape, mx::int32, mx::random::key(shape.size()));
      for (bool shared : {true, false}) {
        auto x_shape = shape;
        if (shared) x_shape.pop_back();
        x_shape.push_back(kCols);
        const auto type = backend() == Backend::mlx ? w.dtype() : mx::float32;
        const auto x = random(x_shape, type, 3);
        // Each index's row with its expert's matrix.
        auto rows = shared ? mx::expand_dims(x, -2) : x;
        auto wide = shape;
        wide.push_back(kCols);
        rows = mx::expand_dims(mx::astype(mx::broadcast_to(rows, wide), mx::float32), -2);
        const auto wanted = mx::squeeze(mx::matmul(rows, mx::swapaxes(mx::take(weight, ids, 0), -1, -2)), -2);
        const auto y = gather_matmul(x, w, mx::astype(ids, shared ? mx::uint32 : mx::int32));
        ASSERT_EQ(y.shape(), wanted.shape()) << what;
        EXPECT_LE(mx::max(mx::abs(mx::astype(y, mx::float32) - wanted)).item<float>(), tolerance)
            << what << ", " << ids.size() << " indices, shared " << shared;
      }
    }
  }
};

TEST_F(ExpertsTest, dense) {
  for (auto dtype : {mx::float32, mx::float16, mx::bfloat16}) {
    const auto weight = random({kExperts, kRows, kCols}, dtype), exact = mx::astype(weight, mx::float32);
    for (auto b : {Backend::kernels, Backend::mlx}) {
      set_backend(b);
      const auto w = ExpertMatrices::dense(weight);
      EXPECT_EQ(w.dtype(), dtype);
      const bool exactly = b == Backend::kernels || dtype == mx::float32;
      expect_holds(w, exact, exactly ? 2e-4f : dtype == mx::float16 ? 0.1f : 0.5f, "dense");
    }
    set_backend(Backend::kernels);
    const auto turned = mx::swapaxes(mx::contiguous(mx::swapaxes(weight, -1, -2)), -1, -2);
    expect_holds(ExpertMatrices::dense(turned), exact, 2e-4f, "a transpose");
  }
}

TEST_F(ExpertsTest, quantized) {
  for (const Quantization& q :
       {Quantization{64, 4, "affine"}, Quantization{32, 8, "affine"}, Quantization{32, 4, "mxfp4"},
        Quantization{32, 8, "mxfp8"}, Quantization{16, 4, "nvfp4"}}) {
    const auto parts = mx::quantize(random({kExperts, kRows, kCols}), q.group_size, q.bits, q.mode);
    const auto biases = parts.size() > 2 ? std::optional(parts[2]) : std::nullopt;
    const auto exact =
        mx::dequantize(parts[0], parts[1], biases, q.group_size, q.bits, q.mode, std::nullopt, mx::float32);
    for (auto b : {Backend::kernels, Backend::mlx}) {
      set_backend(b);
      const auto w = ExpertMatrices::quantized(parts[0], parts[1], biases, q);
      const bool exactly = b == Backend::kernels || w.dtype() == mx::float32;
      expect_holds(w, exact, exactly ? 5e-4f : 1.f, q.mode);
    }
  }
}

// MLX's own kernel on the same numbers, with activations of 16 bits: the default.
TEST_F(ExpertsTest, as_gather_qmm) {
  kernels::set_activations(kernels::Activations::int16);
  const auto parts = mx::quantize(random({kExperts, kRows, kCols}), 32, 4);
  const auto w = ExpertMatrices::quantized(parts[0], parts[1], parts[2], {32, 4, "affine"});
  const auto ids = mx::random::randint(0, kExperts, {3, 50, 2}, mx::uint32, mx::random::key(4));
  const auto x = random({3, 50, kCols}, mx::float32, 5);
  const auto wanted = mx::squeeze(
      mx::gather_qmm(mx::expand_dims(x, {-2, -3}), parts[0], parts[1], parts[2], std::nullopt, ids, true, 32, 4), -2);
  const auto y = gather_matmul(x, w, ids);
  ASSERT_EQ(y.shape(), wanted.shape());
  EXPECT_LE(mx::max(mx::abs(y - wanted)).item<float>(), 5e-3f);
}

TEST_F(ExpertsTest, outlives_its_arrays) {
  std::optional<mx::array> lazy;
  const auto x = random({4, kCols});
  const auto ids = mx::array({0, 5, 5, 2, 1, 0, 3, 3}, {4, 2});
  const auto weight = random({kExperts, kRows, kCols});
  {
    const auto w = ExpertMatrices::dense(weight);
    lazy = gather_matmul(x, w, ids);
  }
  const auto again = gather_matmul(x, ExpertMatrices::dense(weight), ids);
  EXPECT_TRUE(mx::array_equal(*lazy, again).item<bool>());
}

TEST_F(ExpertsTest, refuses_other_shapes) {
  const auto w = ExpertMatrices::dense(random({kExperts, kRows, kCols}));
  const auto ids = mx::zeros({4, 2}, mx::int32);
  for (const mx::Shape& shape : {mx::Shape{4, kCols + 1}, {3, kCols}, {4, 3, kCols}, {kCols}, {1, 4, 2, kCols}, {}}) {
    EXPECT_THROW(gather_matmul(random(shape), w, ids), std::invalid_argument);
  }
  EXPECT_THROW(gather_matmul(random({kCols}), w, mx::array(1)), std::invalid_argument);
  for (auto b : {Backend::kernels, Backend::mlx}) {
    set_backend(b);
    EXPECT_THROW(ExpertMatrices::dense(random({kRows, kCols})), WeightError);
    const auto parts = mx::quantize(random({kExperts, kRows, kCols}), 64, 4);
    const auto make = [&](mx::array w, mx::array s, std::optional<mx::array> b) {
      ExpertMatrices::quantized(std::move(w), std::move(s), std::move(b), {64, 4, "affine"});
    };
    EXPECT_NO_THROW(make(parts[0], parts[1], parts[2]));
    EXPECT_THROW(make(parts[0], parts[1], std::nullopt), WeightError);
    EXPECT_THROW(make(parts[0], mx::slice(parts[1], {0, 0, 0}, {5, kRows, 2}), parts[2]), WeightError);
    EXPECT_THROW(make(parts[0], mx::flatten(parts[1], 0, 1), parts[2]), WeightError);
    EXPECT_THROW(make(mx::flatten(parts[0], 0, 1), parts[1], parts[2]), WeightError);
    EXPECT_THROW(make(mx::array(uint32_t{1}), parts[1], parts[2]), WeightError);
  }
}

}  // namespace
}  // namespace mlx_lm::ops
