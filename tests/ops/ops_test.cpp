// Each step by our kernels against MLX's own operations, on random shapes.
#include "mlx_lm/ops/ops.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/products.h"

namespace mlx_lm::ops {
namespace {

class Ops : public testing::Test {
 protected:
  void TearDown() override { set_backend(Backend::kernels); }

  template <class F>
  mx::array by(Backend backend, F&& f) {
    set_backend(backend);
    mx::array result = f();
    result.eval();
    return result;
  }
  // f under both backends, MLX in float32.
  template <class F>
  void expect_same(F&& f, float tolerance, const std::string& what) {
    const auto ours = by(Backend::kernels, f), theirs = by(Backend::mlx, f);
    EXPECT_EQ(ours.dtype(), mx::float32);
    ASSERT_EQ(ours.shape(), theirs.shape()) << what;
    EXPECT_LT(difference(ours, theirs), tolerance) << what;
  }
  static float difference(const mx::array& a, const mx::array& b) {
    return mx::max(mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32))).item<float>();
  }
  int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
  mx::array random(const mx::Shape& shape, mx::Dtype dtype = mx::float32) {
    return mx::astype(mx::random::normal(shape, mx::float32, mx::random::key(engine_())), dtype);
  }
  // The same numbers laid out otherwise: every second column, a transpose, a slice.
  mx::array elsewhere(const mx::array& x, int way) {
    if (way == 0) return x;
    if (way == 1) {
      auto wide = mx::repeat(x, 2, -1);
      auto stop = wide.shape();
      mx::Shape strides(x.ndim(), 1);
      strides.back() = 2;
      return mx::slice(wide, mx::Shape(x.ndim(), 0), stop, strides);
    }
    if (way == 2) return mx::swapaxes(mx::contiguous(mx::swapaxes(x, 0, -1)), 0, -1);
    auto more = mx::concatenate({x, x}, 1);
    mx::Shape start(x.ndim(), 0), stop = more.shape();
    start[1] = x.shape(1);
    return mx::slice(more, start, stop);
  }

  std::minstd_rand engine_{1};
};

constexpr mx::Dtype kTypes[] = {mx::float32, mx::float16, mx::bfloat16};

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

TEST_F(Ops, rope) {
  for (int i = 0; i < 60; ++i) {
    const int dims = 2 * between(1, 20), size = dims + (i % 3 == 0 ? 0 : between(0, 7));
    Rope::Options options{.dims = dims, .traditional = i % 2 == 1, .base = 1e4f, .scale = i % 5 == 0 ? 0.25f : 1.f};
    if (i % 4 == 1) {
      for (int k = 0; k < dims / 2; ++k) options.freqs.push_back(float(std::pow(3.0, k)) + 0.5f);
    }
    if (i % 4 == 2) options.magnitude = 1.3f;
    const Rope r(options);
    const auto x = elsewhere(random({between(1, 3), between(1, 6), between(1, 4), size}), i % 4);
    const int offset = i % 2 ? between(0, 100) : 0;
    expect_same([&] { return rope(x, r, offset); }, 1e-4f, fmt::format("dims {} of {}, case {}", dims, size, i));
  }
}

TEST_F(Ops, rope_wavelengths_may_be_infinite) {
  Rope::Options options{.dims = 4};
  options.freqs = {1.f, INFINITY};
  const auto x = random({1, 3, 1, 4});
  expect_same([&] { return rope(x, Rope(options), 5); }, 1e-5f, "a pair that does not rotate");
}

TEST_F(Ops, write_rows) {
  for (int i = 0; i < 40; ++i) {
    const int batch = between(1, 2), heads = between(1, 3), size = between(1, 40), capacity = between(4, 12);
    const int length = between(1, capacity), position = between(0, capacity - length);
    const auto dtype = kTypes[i % 3];
    const auto keys = random({batch, heads, capacity, size}, dtype), values = random(keys.shape(), dtype);
    const auto new_keys = elsewhere(random({batch, length, heads, size}, i % 2 ? mx::float32 : dtype), i % 4),
               new_values = elsewhere(random({batch, length, heads, size}), i / 4 % 4);
    // The kernels write into the buffers that they are given, so each run gets its own.
    const auto run = [&](int which) {
      return [&, which] {
        auto k = mx::copy(keys), v = mx::copy(values);
        mx::eval(k, v);
        auto written = write_rows(k, v, new_keys, new_values, position);
        return which == 0 ? written.first : written.second;
      };
    };
    for (int which : {0, 1}) {
      const auto ours = by(Backend::kernels, run(which)), theirs = by(Backend::mlx, run(which));
      EXPECT_EQ(ours.dtype(), dtype);
      EXPECT_EQ(theirs.dtype(), dtype);
      EXPECT_TRUE(mx::array_equal(ours, theirs).item<bool>()) << "case " << i;
    }
  }
}

TEST_F(Ops, attention) {
  for (int i = 0; i < 120; ++i) {
    const int batch = between(1, 2), kv_heads = between(1, 3), heads = kv_heads * between(1, 4);
    const int size = i % 3 == 0 ? 64 : between(1, 40), length = between(1, i % 10 == 0 ? 300 : 30);
    const int queries = i % 2 ? 1 : between(1, length), capacity = length + between(0, 5);
    Span span{.length = length, .start = length - queries, .window = i % 4 == 3 ? between(1, length + 2) : 0};
    if (i % 7 == 6) span.length = std::min(length, span.start + 1);  // the later queries see no more than the first
    const auto q = elsewhere(random({batch, queries, heads, size}), i % 4);
    const auto type = kTypes[i % 3];
    const auto keys = elsewhere(random({batch, kv_heads, capacity, size}, type), i / 4 % 4),
               values = elsewhere(random({batch, kv_heads, capacity, size}, type), i / 2 % 4);
    if (span.window > 0 && span.window < queries && span.length < length) continue;  // a query would see nothing
    expect_same([&] { return attention(q, keys, values, span, 0.37f); }, 3e-5f,
                fmt::format("case {}: {} heads over {}, {} of {} rows, window {}", i, heads, kv_heads, queries, length,
                            span.window));
  }
}

TEST_F(Ops, attention_takes_half_precision_queries) {
  for (auto type : {mx::float16, mx::bfloat16}) {
    const auto q = random({1, 3, 4, 16}, type), keys = random({1, 2, 5, 16}, type),
               values = random({1, 2, 5, 16}, type);
    const Span span{.length = 5, .start = 2};
    const auto ours = by(Backend::kernels, [&] { return attention(q, keys, values, span, 0.25f); });
    const auto wanted =
        by(Backend::mlx, [&] { return attention(mx::astype(q, mx::float32), keys, values, span, 0.25f); });
    EXPECT_LT(difference(ours, wanted), 1e-5);
    EXPECT_EQ(by(Backend::mlx, [&] { return attention(q, keys, values, span, 0.25f); }).dtype(), type);
  }
}

// Rows past the length in use may hold anything.
TEST_F(Ops, attention_does_not_look_past_its_span) {
  const auto q = random({1, 2, 2, 8});
  const auto keys = random({1, 1, 6, 8}), values = random({1, 1, 6, 8});
  const auto used = mx::reshape(mx::arange(6) < mx::array(4), {1, 1, 6, 1});
  const auto bad_keys = mx::where(used, keys, mx::array(NAN)), bad_values = mx::where(used, values, mx::array(NAN));
  const Span span{.length = 4, .start = 2};
  for (auto backend : {Backend::kernels, Backend::mlx}) {
    const auto clean = by(backend, [&] { return attention(q, keys, values, span, 1); });
    const auto dirty = by(backend, [&] { return attention(q, bad_keys, bad_values, span, 1); });
    EXPECT_TRUE(mx::array_equal(clean, dirty).item<bool>());
  }
}

// A step's inputs may be broadcast or reversed views, whose strides are 0 or negative.
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
