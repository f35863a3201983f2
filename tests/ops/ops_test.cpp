// Each step by our kernels against MLX's own operations, on random shapes.
#include "mlx_lm/ops/ops.h"

#include <cmath>

#include "mlx_lm/ops/products.h"

#include "tests/ops/both_backends.h"

namespace mlx_lm::ops {
namespace {

class Ops : public BothBackends {};

TEST_F(Ops, rms_norm) {
  for (int i = 0; i < 40; ++i) {
    const mx::Shape shape{between(1, 3), between(1, 5), between(1, 200)};
    const auto x = elsewhere(random(shape, kTypes[i % 3]), i % 4), w = random({shape[2]}, kTypes[i / 3 % 3]);
    const auto exact = mx::astype(x, mx::float32), weight = mx::astype(w, mx::float32);
    const auto ours = by(Backend::kernels, [&] { return rms_norm(x, w, 1e-5f); });
    const auto wanted = by(Backend::mlx, [&] { return rms_norm(exact, weight, 1e-5f); });
    EXPECT_LT(difference(ours, wanted), 2e-5) << shape[2];
    EXPECT_EQ(ours.dtype(), mx::float32);
  }
}

TEST_F(Ops, swiglu) {
  for (int i = 0; i < 40; ++i) {
    const mx::Shape shape{between(1, 3), between(1, 5), between(1, 200)};
    const auto gate = elsewhere(random(shape, kTypes[i % 3]) * mx::array(4.f, kTypes[i % 3]), i % 4),
               up = elsewhere(random(shape, kTypes[i / 3 % 3]), i / 4 % 4);
    const auto ours = by(Backend::kernels, [&] { return swiglu(gate, up); });
    const auto wanted =
        by(Backend::mlx, [&] { return swiglu(mx::astype(gate, mx::float32), mx::astype(up, mx::float32)); });
    EXPECT_LT(difference(ours, wanted), 1e-5);
  }
  // Where exp overflows.
  const mx::array far({-200.f, 200.f, -0.f, -88.f});
  expect_same([&] { return swiglu(far, mx::ones({4})); }, 1e-6f, "large numbers");
}

TEST_F(Ops, rms_norm_without_a_weight) {
  const auto x = elsewhere(random({2, 3, 50}), 3);
  expect_same([&] { return rms_norm(x, 1e-5f); }, 1e-5f, "rms_norm");
}

TEST_F(Ops, layer_norm) {
  for (int i = 0; i < 40; ++i) {
    const mx::Shape shape{between(1, 3), between(1, 5), between(2, 200)};
    const auto x = elsewhere(random(shape), i % 4), w = random({shape[2]}, kTypes[i % 3]);
    const auto weight = i % 2 ? std::optional(w) : std::nullopt, bias = i / 2 % 2 ? std::optional(w) : std::nullopt;
    expect_same([&] { return layer_norm(x, weight, bias, 1e-5f); }, 3e-5f, fmt::format("{} numbers", shape[2]));
  }
}

TEST_F(Ops, gelu_and_geglu) {
  for (int i = 0; i < 40; ++i) {
    const mx::Shape shape{between(1, 3), between(1, 5), between(1, 200)};
    const auto gate = elsewhere(random(shape) * mx::array(3.f), i % 4), up = elsewhere(random(shape), i / 4 % 4);
    for (auto kind : {Gelu::erf, Gelu::tanh}) {
      expect_same([&] { return geglu(gate, up, kind); }, 1e-5f, "geglu");
      expect_same([&] { return gelu(gate, kind); }, 3e-6f, "gelu");
    }
  }
}

TEST_F(Ops, argmax_and_top_k) {
  for (int i = 0; i < 30; ++i) {
    const mx::Shape shape{between(1, 3), between(1, 4), i % 3 ? between(1, 300) : between(9000, 20000)};
    const auto x = elsewhere(random(shape, kTypes[i % 3]), i % 4);
    const auto places = by(Backend::kernels, [&] { return ops::argmax(x); });
    EXPECT_EQ(places.dtype(), mx::uint32);
    EXPECT_TRUE(mx::array_equal(places, by(Backend::mlx, [&] { return ops::argmax(x); })).item<bool>());
    const int k = between(1, std::min(shape[2], 50));
    const auto values = by(Backend::kernels, [&] { return top_k(x, k).first; });
    const auto wanted = by(Backend::mlx, [&] { return top_k(x, k).first; });
    EXPECT_TRUE(mx::array_equal(values, mx::astype(wanted, mx::float32)).item<bool>()) << shape[2] << " " << k;
    for (auto backend : {Backend::kernels, Backend::mlx}) {
      const auto found = by(backend, [&] { return mx::take_along_axis(x, top_k(x, k).second, -1); });
      EXPECT_TRUE(mx::array_equal(mx::astype(found, mx::float32), values).item<bool>());
    }
  }
}

TEST_F(Ops, take_any_layout) {
  const auto row = random({1, 1, 24});
  const auto broadcast = mx::broadcast_to(row, {2, 3, 24});
  const auto reversed = mx::slice(random({2, 3, 24}), {0, 0, 23}, {2, 3, -25}, {1, 1, -1});
  const auto w = mx::broadcast_to(mx::array({2.f}), {24});
  for (const auto& x : {broadcast, reversed}) {
    expect_same([&] { return rms_norm(x, w, 1e-5f); }, 1e-5f, "rms_norm");
    expect_same([&] { return swiglu(x, x); }, 1e-5f, "swiglu");
  }
}

TEST_F(Ops, do_not_mind_nothing) {
  const auto none = mx::zeros({1, 0, 8}), w = mx::ones({8});
  EXPECT_EQ(by(Backend::kernels, [&] { return swiglu(none, none); }).size(), 0u);
  EXPECT_EQ(by(Backend::kernels, [&] { return rms_norm(none, w, 1e-5f); }).size(), 0u);
}

}  // namespace
}  // namespace mlx_lm::ops
