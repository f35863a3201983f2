#include "mlx_lm/nn/attention.h"

#include <cmath>

#include <gtest/gtest.h>

#include "mlx_lm/cache/growing.h"

#include "tests/nn/plain.h"

namespace mlx_lm::nn {
namespace {

class Attention : public BothBackends {};

TEST_P(Attention, heads_are_split_and_merged) {
  const auto x = mx::reshape(mx::arange(24), {1, 2, 12});
  const auto heads = split_heads(x, 3);
  EXPECT_EQ(heads.shape(), (mx::Shape{1, 2, 3, 4}));
  EXPECT_EQ(mx::take(heads, mx::array({1}), 2).shape(), (mx::Shape{1, 2, 1, 4}));
  EXPECT_EQ(difference(merge_heads(heads), x), 0);
}

// The whole text at once, in pieces and token by token; and against softmax written out.
TEST_P(Attention, attend_remembers) {
  constexpr int kLength = 9;
  const Rope rope({.dims = 8}, std::nullopt);
  const auto q = random({1, kLength, 4, 8}), k = random({1, kLength, 2, 8}, mx::float32, 1),
             v = random({1, kLength, 2, 8}, mx::float32, 2);
  const auto rows = [](const mx::array& x, int begin, int end) {
    auto stop = x.shape();
    stop[1] = end;
    return mx::slice(x, {0, begin, 0, 0}, stop);
  };
  for (int window : {0, 3}) {
    const auto heads = [](const mx::array& x) { return mx::swapaxes(x, 1, 2); };
    const auto keys = mx::repeat(heads(rope(k, 0)), 2, 1), values = mx::repeat(heads(v), 2, 1);
    auto scores = mx::matmul(heads(rope(q, 0)), mx::swapaxes(keys, 2, 3)) * mx::array(0.3f);
    const auto column = mx::arange(kLength), row = mx::expand_dims(mx::arange(kLength), 1);
    auto visible = mx::less_equal(column, row);
    if (window > 0) visible = mx::logical_and(visible, mx::greater(column, row - mx::array(window)));
    scores = mx::where(visible, scores, mx::array(-1e30f));
    const auto wanted = heads(mx::matmul(mx::softmax(scores, -1), values));
    for (const std::vector<int>& pieces : {std::vector{kLength}, {4, 5}, std::vector<int>(kLength, 1)}) {
      cache::GrowingKVCache cache(mx::float32);
      int at = 0;
      for (int n : pieces) {
        const auto out =
            attend(rows(q, at, at + n), rows(k, at, at + n), rows(v, at, at + n), rope, cache, 0.3f, window);
        EXPECT_LT(difference(out, rows(wanted, at, at + n)), 1e-4) << "window " << window << ", at " << at;
        at += n;
      }
    }
  }
}

TEST_P(Attention, queries_grow_with_their_position) {
  const auto q = random({1, 4, 2, 8});
  const auto factor = [](int lengths) { return 1 + 0.3 * std::log(1 + lengths); };
  const auto found = grown(q, {{3, 7}, {1, 30}}, {.beta = 0.3f, .length = 10, .first = 1});
  int l = 0;
  for (int lengths : {0, 0, 1, 3}) {
    const auto at = [&](const mx::array& x) { return mx::slice(x, {0, l, 0, 0}, {1, l + 1, 2, 8}); };
    EXPECT_LT(difference(at(found), at(q) * mx::array(float(factor(lengths)))), 1e-6) << l;
    ++l;
  }
}

MLX_LM_FOR_BOTH_BACKENDS(Attention);

}  // namespace
}  // namespace mlx_lm::nn
