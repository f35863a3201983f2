#include "mlx_lm/cache/growing.h"

#include "mlx_lm/ops/backend.h"

#include "tests/cache/cache_case.h"

namespace mlx_lm::cache {
namespace {

TEST(GrowingKVCache, starts_empty) {
  GrowingKVCache cache(mx::float16);
  EXPECT_EQ(cache.offset(), 0);
  EXPECT_EQ(cache.nbytes(), 0u);
  EXPECT_TRUE(cache.state().empty());
  EXPECT_EQ(cache.trim(3), 0);
}

TEST(GrowingKVCache, keeps_everything_across_growth) {
  GrowingKVCache cache(mx::float32);
  Feeder feeder(cache);
  int total = 0;
  for (int n : {1, 5, 250, 1, 1, 300, 2, 1000, 1}) {
    const auto view = feeder.add(n);
    EXPECT_EQ(seen(view, 0), range(1, total + 1));
    EXPECT_EQ(seen(view, n - 1), range(1, total + n));
    total += n;
    EXPECT_EQ(cache.offset(), total);
    EXPECT_EQ(view.keys.rows() % 256, 0);
  }
}

TEST(GrowingKVCache, shows_a_window_of_what_it_keeps) {
  GrowingKVCache cache(mx::float32);
  Feeder feeder(cache, /* window */ 4);
  const auto first = feeder.add(6);
  EXPECT_EQ(seen(first, 2), range(1, 3));
  EXPECT_EQ(seen(first, 5), range(3, 6));
  EXPECT_EQ(seen(feeder.add(1), 0), range(4, 7));
}

TEST(GrowingKVCache, forgets_the_last_tokens) {
  GrowingKVCache cache(mx::float32);
  Feeder feeder(cache);
  feeder.add(10);
  EXPECT_EQ(cache.trim(4), 4);
  EXPECT_EQ(cache.offset(), 6);
  auto wanted = range(1, 6);
  wanted.insert(11);
  EXPECT_EQ(seen(feeder.add(1), 0), wanted);
  EXPECT_EQ(cache.trim(100), 7);
  EXPECT_EQ(cache.offset(), 0);
  EXPECT_EQ(seen(feeder.add(2), 1), range(12, 13));
}

TEST(GrowingKVCache, copies_its_buffers_ever_more_rarely) {
  GrowingKVCache cache(mx::float16);
  Feeder feeder(cache);
  feeder.add(4096);
  const auto before = cache.nbytes();
  feeder.add(1);
  const auto grown = cache.nbytes();
  EXPECT_GE(grown, before + before / 4) << "a quarter at a time";
  for (int i = 0; i < 1000; ++i) feeder.add(1);
  EXPECT_EQ(cache.nbytes(), grown);
  mx::eval(cache.state());
}

TEST(GrowingKVCache, stores_the_models_type) {
  for (auto [backend, wanted] :
       {std::pair(ops::Backend::kernels, mx::bfloat16), std::pair(ops::Backend::mlx, mx::bfloat16)}) {
    ops::set_backend(backend);
    GrowingKVCache cache(mx::bfloat16);
    auto x = mx::full({1, 2, 1, 4}, 1.00390625f, mx::float32);  // 1 + 2^-8, between two bfloat16
    const auto view = cache.update(x, x, 0).at(0);
    EXPECT_EQ(view.keys.dtype(), wanted);
    auto stored = mx::astype(view.keys.data, mx::float32);
    stored.eval();
    EXPECT_EQ(stored.data<float>()[0], 1.f) << "rounded to even";
    EXPECT_EQ(cache.nbytes(), 2u * 256 * 4 * 2);
  }
  // On a GPU the arrays come in the model's type already, and stay in it.
  GrowingKVCache cache(mx::bfloat16);
  auto x = mx::ones({1, 2, 1, 4}, mx::float16);
  EXPECT_EQ(cache.update(x, x, 0).at(0).keys.dtype(), mx::float16);
  ops::set_backend(ops::Backend::kernels);
}

// The reason for write_rows: a step must not copy the whole cache.
TEST(GrowingKVCache, writes_in_place) {
  GrowingKVCache cache(mx::float16);
  Feeder feeder(cache);
  auto first = feeder.add(3).keys.data;
  first.eval();
  const void* memory = first.data<void>();
  for (int i = 0; i < 5; ++i) {
    auto keys = feeder.add(1).keys.data;
    keys.eval();
    EXPECT_EQ(keys.data<void>(), memory);
  }
}

TEST(GrowingKVCache, a_copy_goes_on_by_itself) {
  GrowingKVCache cache(mx::float32);
  EXPECT_EQ(cache.copy()->offset(), 0);
  Feeder feeder(cache);
  feeder.add(10);
  const auto copied = cache.copy();
  feeder.add(2);
  auto& copy = dynamic_cast<GrowingKVCache&>(*copied);
  EXPECT_EQ(copy.offset(), 10);
  Feeder other(copy);
  copy.trim(3);
  auto wanted = range(1, 7);
  wanted.insert(11);
  EXPECT_EQ(seen(other.add(1), 0), wanted);
  EXPECT_EQ(seen(feeder.add(1), 0), range(1, 13));
}

}  // namespace
}  // namespace mlx_lm::cache
