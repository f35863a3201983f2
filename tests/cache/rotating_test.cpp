// What each step sees, against mlx-lm's caches (tests/golden/dump_caches.py).
#include "mlx_lm/cache/rotating.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/ops/backend.h"

#include "tests/cache/cache_case.h"

namespace mlx_lm::cache {
namespace {

using nlohmann::json;

std::set<int> from_ranges(const json& ranges) {
  std::set<int> numbers;
  for (const auto& r : ranges) numbers.merge(range(r[0], r[1]));
  return numbers;
}

class LikeMlxLm : public testing::TestWithParam<ops::Backend> {
 protected:
  void SetUp() override { ops::set_backend(GetParam()); }
  void TearDown() override { ops::set_backend(ops::Backend::kernels); }
};

TEST_P(LikeMlxLm, every_step_sees_the_same_tokens) {
  const auto golden = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/caches.json"));
  ASSERT_GE(golden.size(), 20u);
  for (const auto& c : golden) {
    std::unique_ptr<KVCache> cache;
    if (c.at("max_size").is_null()) {
      cache = std::make_unique<GrowingKVCache>(mx::float32);
    } else {
      cache = std::make_unique<RotatingKVCache>(mx::float32, c.at("max_size"), c.at("keep"));
    }
    Feeder feeder(*cache);
    for (size_t i = 0; i < c.at("steps").size(); ++i) {
      const auto& step = c.at("steps")[i];
      SCOPED_TRACE(testing::Message() << "max_size " << c.at("max_size") << ", keep " << c.at("keep") << ", step " << i
                                      << ": " << step);
      if (step.contains("add")) {
        const int n = step.at("add");
        const auto view = feeder.add(n);
        EXPECT_EQ(seen(view, 0), from_ranges(step.at("first")));
        EXPECT_EQ(seen(view, n - 1), from_ranges(step.at("last")));
      } else {
        EXPECT_EQ(cache->trim(step.at("trim")), step.at("trimmed"));
      }
      EXPECT_EQ(cache->offset(), step.at("offset"));
      // Ours can take back a longer step of a full ring too.
      if (step.at("trimmable")) {
        EXPECT_TRUE(cache->is_trimmable());
      }
      ASSERT_FALSE(testing::Test::HasFailure());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LikeMlxLm, testing::Values(ops::Backend::kernels, ops::Backend::mlx),
                         [](const auto& info) { return info.param == ops::Backend::kernels ? "kernels" : "mlx"; });

TEST(RotatingKVCache, is_bounded) {
  RotatingKVCache cache(mx::float16, 40, 4);
  Feeder feeder(cache);
  const size_t row = 2 * 2 * kBatch * kHeads * kHeadDim;
  feeder.add(10);
  EXPECT_LE(cache.nbytes(), 40 * row);
  for (int i = 0; i < 100; ++i) feeder.add(1);
  EXPECT_EQ(cache.nbytes(), 40 * row);
  feeder.add(30);
  EXPECT_EQ(cache.nbytes(), (40 - 1 + 30) * row) << "each query of a longer step finds the 39 tokens before it";
  feeder.add(1);
  EXPECT_EQ(cache.nbytes(), 40 * row);
  EXPECT_EQ(cache.max_size(), 40);
}

// A long prompt in one piece and in many shows the next token the same.
TEST(RotatingKVCache, does_not_depend_on_how_the_prompt_was_cut) {
  for (int keep : {0, 4}) {
    for (const std::vector<int>& pieces : {std::vector{50}, {20, 30}, {7, 7, 7, 7, 7, 7, 7, 1}, std::vector(50, 1)}) {
      RotatingKVCache cache(mx::float32, 16, keep);
      Feeder feeder(cache);
      for (int n : pieces) feeder.add(n);
      auto wanted = range(36 + keep, 51);
      wanted.merge(range(1, keep));
      EXPECT_EQ(seen(feeder.add(1), 0), wanted) << "keep " << keep << ", first piece " << pieces[0];
    }
  }
}

TEST(RotatingKVCache, refuses_a_size_that_holds_nothing) {
  for (auto [size, keep] : {std::pair(0, 0), {-1, 0}, {4, 4}, {3, 4}, {8, -1}}) {
    EXPECT_THROW(RotatingKVCache(mx::float16, size, keep), RequestError) << size << ", " << keep;
  }
  try {
    RotatingKVCache(mx::float16, 3, 4);
  } catch (const RequestError& error) {
    EXPECT_STREQ(error.what(), "[cache] max_kv_size: expected more than 4 (tokens always kept), found 3");
  }
}

// What speculation needs: the tokens of the newest step can be taken back, however long the text is.
TEST(RotatingKVCache, forgets_what_a_longer_step_appended) {
  for (int before : {3, 14, 15, 16, 17, 40}) {
    for (int n : {2, 5, 16, 30}) {
      for (int taken = 0; taken <= n; ++taken) {
        for (int keep : {0, 4}) {
          SCOPED_TRACE(testing::Message()
                       << before << " tokens, then " << n << ", of which " << taken << " go; keep " << keep);
          RotatingKVCache cache(mx::float32, 16, keep), plain(mx::float32, 16, keep);
          Feeder feeder(cache), other(plain);
          for (int i = 0; i < before; ++i) feeder.add(1), other.add(1);
          feeder.add(n);
          EXPECT_GE(cache.trimmable(), n);
          EXPECT_EQ(cache.trim(taken), taken);
          for (int i = 0; i < n - taken; ++i) other.add(1);
          EXPECT_EQ(cache.offset(), plain.offset());
          Feeder again(cache);  // numbers the next token as the other does
          for (int i = 0; i < 3; ++i) EXPECT_EQ(seen(again.add(1), 0), seen(other.add(1), 0)) << i;
          EXPECT_EQ(seen(again.add(7), 6), seen(other.add(7), 6));
        }
      }
    }
  }
}

TEST(RotatingKVCache, single_tokens_of_a_full_ring_cannot_be_forgotten) {
  RotatingKVCache cache(mx::float32, 16);
  Feeder feeder(cache);
  for (int i = 0; i < 20; ++i) feeder.add(1);
  EXPECT_EQ(cache.trimmable(), 0);
  EXPECT_EQ(cache.trim(3), 0);
  EXPECT_EQ(cache.offset(), 20);
}

TEST(RotatingKVCache, a_copy_goes_on_by_itself) {
  RotatingKVCache cache(mx::float32, 16, 2);
  Feeder feeder(cache);
  for (int i = 0; i < 21; ++i) feeder.add(1);
  const auto copied = cache.copy();
  feeder.add(5);
  auto& copy = dynamic_cast<RotatingKVCache&>(*copied);
  EXPECT_EQ(copy.offset(), 21);
  auto wanted = range(9, 22);
  wanted.merge(range(1, 2));
  EXPECT_EQ(seen(Feeder(copy).add(1), 0), wanted);
}

// Single tokens are written in place.
TEST(RotatingKVCache, a_copy_of_a_full_ring_has_memory_of_its_own) {
  for (auto backend : {ops::Backend::kernels, ops::Backend::mlx}) {
    ops::set_backend(backend);
    RotatingKVCache cache(mx::float32, 16, 2);
    Feeder feeder(cache);
    for (int i = 0; i < 20; ++i) feeder.add(1);
    const auto copied = cache.copy();
    auto& copy = dynamic_cast<RotatingKVCache&>(*copied);
    Feeder other(copy);
    auto wanted = range(8, 21);
    wanted.merge(range(1, 2));
    feeder.add(1);
    mx::eval(cache.state());
    auto before = range(7, 20);
    before.merge(range(1, 2));
    EXPECT_EQ(seen({*copy.keys(), *copy.values(), 1, {.length = 16, .start = 15}}, 0), before);
    EXPECT_EQ(seen(other.add(1), 0), wanted);
  }
  ops::set_backend(ops::Backend::kernels);
}

}  // namespace
}  // namespace mlx_lm::cache
