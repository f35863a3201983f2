#include "mlx_lm/cache/chunked.h"

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/batch.h"
#include "mlx_lm/cache/footprint.h"
#include "mlx_lm/cache/saved_cache.h"
#include "mlx_lm/ops/backend.h"

#include "tests/cache/cache_case.h"

namespace mlx_lm::cache {
namespace {

// What token `position` (from 0) sees.
std::set<int> chunk_of(int position, int size) { return range(position / size * size + 1, position + 1); }

// Appends n numbered tokens; each sees those of its chunk.
void add(KVCache& cache, int n, int size) {
  const int first = cache.offset();
  const auto keys = numbered(first + 1, n);
  int l = 0;
  for (const auto& part : cache.update(keys, mx::negative(keys), 0)) {
    for (int i = 0; i < part.tokens; ++i, ++l) EXPECT_EQ(seen(part, i), chunk_of(first + l, size)) << first + l;
  }
  EXPECT_EQ(l, n);
  EXPECT_EQ(cache.offset(), first + n);
}

class Chunked : public testing::TestWithParam<ops::Backend> {
 protected:
  void SetUp() override { ops::set_backend(GetParam()); }
  void TearDown() override { ops::set_backend(ops::Backend::kernels); }
};

TEST_P(Chunked, every_token_sees_its_chunk) {
  for (int size : {1, 2, 7, 16, 300}) {
    ChunkedKVCache cache(mx::float32, size);
    for (int n : {1, 1, 5, 9, 40, 1, 7, 2, 300, 1}) add(cache, n, size);
    EXPECT_EQ(cache.start(), 366 / size * size);
  }
}

TEST_P(Chunked, a_step_can_be_taken_back) {
  for (int before : {0, 3, 7, 8, 9, 16}) {
    for (int n : {1, 2, 8, 30}) {
      for (int taken = 0; taken <= n; ++taken) {
        SCOPED_TRACE(testing::Message() << before << " tokens, then " << n << ", of which " << taken << " go");
        ChunkedKVCache cache(mx::float32, 8);
        if (before > 0) add(cache, before, 8);
        add(cache, n, 8);
        EXPECT_GE(cache.trimmable(), n);
        EXPECT_EQ(cache.trim(taken), taken);
        for (int next : {1, 9, 1}) add(cache, next, 8);
      }
    }
  }
}

TEST_P(Chunked, forgets_no_more_than_it_holds) {
  ChunkedKVCache cache(mx::float32, 8);
  add(cache, 10, 8);
  EXPECT_TRUE(cache.is_trimmable());
  add(cache, 1, 8);
  EXPECT_EQ(cache.trimmable(), 3);
  EXPECT_EQ(cache.trim(5), 3);
  EXPECT_EQ(cache.offset(), 8);
  add(cache, 2, 8);
}

TEST_P(Chunked, is_bounded) {
  ChunkedKVCache cache(mx::float16, 40);
  const size_t row = 2 * 2 * kBatch * kHeads * kHeadDim;
  for (int i = 0; i < 100; ++i) cache.update(numbered(i, 1), numbered(i, 1), 0);
  EXPECT_EQ(cache.nbytes(), 40 * row);
  const KVCaches caches = [] {
    KVCaches caches;
    caches.push_back(std::make_unique<ChunkedKVCache>(mx::float16, 40));
    kv(*caches[0]).update(numbered(1, 2), numbered(1, 2), 0);
    return caches;
  }();
  EXPECT_EQ(Footprint(caches, 10)(1000), 50 * row);
}

TEST_P(Chunked, a_copy_goes_on_by_itself) {
  ChunkedKVCache cache(mx::float32, 8);
  add(cache, 20, 8);
  const auto copied = cache.copy();
  auto& copy = kv(*copied);
  cache.trim(2);
  const auto other = numbered(100, 4);
  cache.update(other, other, 0);
  mx::eval(cache.state());
  add(copy, 3, 8);
  const auto again = cache.copy();
  EXPECT_EQ(again->trim(100), 6) << "those of the last step's chunks";
  auto trimmed = ChunkedKVCache(mx::float32, 8);
  add(trimmed, 20, 8);
  const auto back = trimmed.copy();
  EXPECT_EQ(back->trim(15), 15);
  add(kv(*back), 13, 8);
}

TEST_P(Chunked, chunks_may_be_quantized) {
  const auto rows = [](int n, int seed) {
    return mx::random::normal({1, n, 2, 64}, mx::float32, mx::random::key(seed));
  };
  const ops::KVFormat format{8, 64};
  ChunkedKVCache cache(mx::float16, 8);
  cache.update(rows(20, 1), rows(20, 2), 0);
  cache.quantize(format);
  EXPECT_EQ(cache.trim(10), 10);
  EXPECT_EQ(cache.start(), 8);
  EXPECT_EQ(cache.format(), format);
  EXPECT_EQ(cache.keys()->format, format);
  const auto view = cache.update(rows(10, 3), rows(10, 4), 0);
  ASSERT_EQ(view.size(), 2u);
  EXPECT_EQ(view[0].span.length, 8);
  EXPECT_EQ(view[1].span.length, 4);
  for (const auto& part : view) EXPECT_EQ(part.keys.format, format);
}

TEST_P(Chunked, texts_of_a_batch) {
  std::vector<KVCaches> texts(2);
  for (auto& text : texts) text.push_back(std::make_unique<ChunkedKVCache>(mx::float32, 4));
  for (const auto& [a, b] : {std::pair(6, 1), {1, 1}, {3, 9}}) {
    const int first[] = {texts[0][0]->offset(), texts[1][0]->offset()};
    const auto keys = mx::concatenate({numbered(first[0] + 1, a, 1), numbered(first[1] + 1, b, 1)}, 1);
    const std::vector<BatchMember> members{{&texts[0], a}, {&texts[1], b}};
    auto caches = batched(members);
    int l = 0;
    for (const auto& part : kv(*caches[0]).update(keys, mx::negative(keys), 0)) {
      for (int i = 0; i < part.tokens; ++i, ++l) {
        EXPECT_EQ(seen(part, i, 1), chunk_of(l < a ? first[0] + l : first[1] + l - a, 4)) << l;
      }
    }
    EXPECT_EQ(l, a + b);
  }
}

TEST_P(Chunked, is_saved_and_restored) {
  for (int offset : {1, 7, 8, 9, 20, 24}) {
    for (int taken : {0, 1, 3, 6}) {
      if (taken >= offset) continue;
      ChunkedKVCache cache(mx::float32, 8);
      add(cache, offset, 8);
      cache.trim(taken);
      const auto restored = cache::restored(saved(cache), "a file");
      EXPECT_EQ(restored->offset(), offset - taken);
      for (int n : {1, 9, 1}) add(kv(*restored), n, 8);
    }
  }
  ChunkedKVCache empty(mx::float32, 8);
  add(empty, 8, 8);
  add(empty, 2, 8);
  empty.trim(2);
  const auto restored = cache::restored(saved(empty), "a file");
  add(kv(*restored), 9, 8);
}

// mlx-lm's holds the last chunk_size tokens before a step, and all of it, in buffers that may be larger.
TEST_P(Chunked, files_of_mlx_lm_have_rows_of_the_chunk_before) {
  const auto keys = mx::swapaxes(numbered(5, 20), 1, 2);
  SavedCache saved{.kind = "ChunkedKVCache",
                   .arrays = {{"0", keys}, {"1", mx::negative(keys)}},
                   .numbers = {{"2", 19}, {"3", 8}, {"4", 4}}};
  const auto restored = cache::restored(saved, "a file");
  EXPECT_EQ(restored->trimmable(), 3);
  for (int n : {1, 9}) add(kv(*restored), n, 8);

  const auto refusal = [&](const char* place, int value) -> std::string {
    auto wrong = saved;
    wrong.numbers[place] = value;
    try {
      cache::restored(wrong, "a file");
    } catch (const WeightError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal("2", 0), "[prompt cache] a file: offset: expected at least 1, found 0");
  EXPECT_EQ(refusal("2", 40), "[prompt cache] a file: rows: expected at least 36, found 20");
  EXPECT_EQ(refusal("3", 0), "[prompt cache] a file: chunk_size: expected a number of tokens, found 0");
  EXPECT_EQ(refusal("4", 17), "[prompt cache] a file: start_position: expected 0 to 16, found 17");
  EXPECT_EQ(refusal("4", -1), "[prompt cache] a file: start_position: expected 0 to 16, found -1");
  saved.numbers.erase("4");
  EXPECT_THROW(cache::restored(saved, "a file"), WeightError);
}

INSTANTIATE_TEST_SUITE_P(Backends, Chunked, testing::Values(ops::Backend::kernels, ops::Backend::mlx),
                         [](const auto& info) { return info.param == ops::Backend::kernels ? "kernels" : "mlx"; });

}  // namespace
}  // namespace mlx_lm::cache
