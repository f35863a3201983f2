#include "mlx_lm/ops/join.h"

#include <set>

#include <gtest/gtest.h>

#include "mlx_lm/ops/attention.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/ops.h"
#include "mlx_lm/ops/products.h"

namespace mlx_lm::ops {
namespace {

mx::array random(const mx::Shape& shape, int seed) {
  return mx::random::normal(shape, mx::float32, mx::random::key(seed));
}

Matrix square(int size, int seed) { return Matrix::dense(random({size, size}, seed) * 0.2f); }

// All steps that x waits for.
std::multiset<std::string> steps(const mx::array& x) {
  std::multiset<std::string> names;
  std::set<std::uintptr_t> seen;
  const auto visit = [&](const auto& self, const mx::array& a) -> void {
    if (a.status() != mx::array::unscheduled || !a.has_primitive() || !seen.insert(a.primitive_id()).second) return;
    names.insert(a.primitive().name());
    for (const auto& input : a.inputs()) self(self, input);
  };
  visit(visit, x);
  return names;
}

bool same_bits(const mx::array& a, const mx::array& b) {
  return a.shape() == b.shape() && mx::array_equal(a, b).item<bool>();
}

// Layers as a model has them. stock: put one of MLX's operations after every second one.
mx::array layers(mx::array x, const std::vector<Matrix>& weights, bool stock = false) {
  const auto ones = mx::ones({x.shape(-1)});
  for (size_t i = 0; i < weights.size(); ++i) {
    x = residual_add(x, matmul(rms_norm(x, ones, 1e-5f), weights[i]));
    if (stock && i % 2 == 1) x = mx::tanh(x);
  }
  return x;
}

std::vector<Matrix> some_weights(int n) {
  std::vector<Matrix> weights;
  for (int i = 0; i < n; ++i) weights.push_back(square(24, i));
  return weights;
}

TEST(Join, makes_one_step_of_many) {
  const auto weights = some_weights(7);
  auto x = random({1, 5, 24}, 50);
  x.eval();
  auto expected = layers(x, weights);
  EXPECT_EQ(steps(expected).count("Products"), 7u);
  expected.eval();
  auto joined = layers(x, weights);
  join({&joined});
  EXPECT_EQ(steps(joined).count("Joined"), 1u);
  EXPECT_EQ(steps(joined).count("Products"), 0u);
  EXPECT_TRUE(same_bits(joined, expected));
}

TEST(Join, leaves_other_operations_between) {
  const auto weights = some_weights(6);
  auto x = random({1, 3, 24}, 50);
  auto expected = layers(x, weights, true);
  expected.eval();
  auto joined = layers(x, weights, true);
  join({&joined});
  EXPECT_EQ(steps(joined).count("Joined"), 3u);
  EXPECT_EQ(steps(joined).count("Tanh"), 3u);
  EXPECT_TRUE(same_bits(joined, expected));
}

TEST(Join, gives_every_result_that_is_wanted) {
  const auto weights = some_weights(4);
  const auto make = [&] {
    const auto x = random({2, 4, 24}, 3);
    auto first = layers(x, {weights[0], weights[1]});
    // An operation of MLX's that is read beside what it reads.
    auto second = layers(mx::add(mx::sin(first), first), {weights[2]});
    auto third = residual_add(first, matmul(second, weights[3]));
    return std::vector<mx::array>{first, second, third, mx::exp(first)};
  };
  auto expected = make();
  mx::eval(expected);
  auto joined = make();
  join({&joined[0], &joined[1], &joined[2], &joined[3]});
  mx::eval(joined);
  for (size_t i = 0; i < joined.size(); ++i) EXPECT_TRUE(same_bits(joined[i], expected[i])) << i;
}

TEST(Join, uses_memory_again_only_when_it_is_free) {
  // Results of many sizes, read at once and much later.
  std::vector<Matrix> weights;
  for (int i = 0; i < 12; ++i) weights.push_back(Matrix::dense(random({8 + i % 5 * 8, 16}, i)));
  const Matrix back = Matrix::dense(random({16, 40}, 99));
  const auto make = [&] {
    auto x = random({1, 6, 16}, 1);
    std::vector<mx::array> kept{x};
    for (int i = 0; i < 12; ++i) {
      auto wide = matmul(kept[i / 3], weights[i]);
      auto all = mx::reshape(wide, {1, 6, wide.shape(2)});
      if (wide.shape(2) == 40) x = residual_add(x, matmul(all, back));
      if (wide.shape(2) == 16) x = swiglu(x, wide);
      kept.push_back(x);
    }
    return x;
  };
  auto expected = make();
  expected.eval();
  auto joined = make();
  join({&joined});
  EXPECT_EQ(steps(joined).count("Joined"), 1u);
  EXPECT_TRUE(same_bits(joined, expected));
}

TEST(Join, keeps_in_place_writes_in_order) {
  const auto run = [](bool joins) {
    auto keys = mx::zeros({1, 2, 8, 4}), values = mx::zeros({1, 2, 8, 4});
    mx::eval(keys, values);
    std::vector<mx::array> results;
    for (int position = 0; position < 5; ++position) {
      const auto q = random({1, 1, 4, 4}, position), k = random({1, 1, 2, 4}, 10 + position);
      const Rope rotation({.dims = 4});
      std::tie(keys, values) = write_rows(keys, values, rope(k, rotation, position), k, position);
      auto seen =
          attention(rope(q, rotation, position), keys, values, {.length = position + 1, .start = position}, 0.5f);
      seen = rms_norm(seen, mx::ones({4}), 1e-5f);
      if (joins) join({&seen, &keys, &values});
      mx::async_eval(seen);
      results.push_back(seen);
    }
    mx::eval(keys, values);
    results.push_back(mx::array(keys.data<float>(), keys.shape()));
    results.push_back(mx::array(values.data<float>(), values.shape()));
    return results;
  };
  const auto expected = run(false), joined = run(true);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(same_bits(joined[i], expected[i])) << i;
}

TEST(Join, does_not_use_the_memory_of_a_cache_between_two_writes) {
  // The buffers that the first write gives are read inside only; a later result of their size must lie elsewhere.
  const auto run = [](bool joins) {
    auto keys = mx::zeros({1, 2, 8, 4}), values = mx::zeros({1, 2, 8, 4});
    mx::eval(keys, values);
    const auto up = Matrix::dense(random({64, 16}, 1)), down = Matrix::dense(random({16, 64}, 2));
    for (int position : {0, 1}) {
      const auto k = random({1, 1, 2, 4}, 10 + position);
      std::tie(keys, values) = write_rows(keys, values, k, k, position);
    }
    const auto q = random({1, 1, 4, 4}, 5);
    const auto seen = attention(q, keys, values, {.length = 2, .start = 1}, 0.5f);
    auto sum = matmul(matmul(mx::reshape(seen, {1, 1, 16}), up), down);
    if (joins) join({&sum, &keys, &values});
    mx::eval(sum, keys, values);
    return std::vector<mx::array>{sum, mx::array(keys.data<float>(), keys.shape()),
                                  mx::array(values.data<float>(), values.shape())};
  };
  const auto expected = run(false), joined = run(true);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(same_bits(joined[i], expected[i])) << i;
}

TEST(Join, leaves_alone_what_has_been_computed) {
  auto x = random({2, 3}, 1);
  x.eval();
  const auto id = x.id();
  join({&x});
  EXPECT_EQ(x.id(), id);
  join({});
}

TEST(Join, does_nothing_by_mlx) {
  set_backend(Backend::mlx);
  const auto weights = some_weights(2);
  auto x = layers(random({1, 1, 24}, 2), weights);
  const auto id = x.id();
  join({&x});
  set_backend(Backend::kernels);
  EXPECT_EQ(x.id(), id);
}

}  // namespace
}  // namespace mlx_lm::ops
