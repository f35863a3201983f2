#include "mlx_lm/cache/batch.h"

#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/rotating.h"

#include "tests/cache/cache_case.h"

namespace mlx_lm::cache {
namespace {

// Three texts of different lengths and kinds of cache, stepped together and alone.
TEST(Batch, texts_see_what_they_would_see_alone) {
  const auto make = [](int i) -> std::unique_ptr<KVCache> {
    if (i == 1) return std::make_unique<RotatingKVCache>(mx::float32, 8, 2);
    return std::make_unique<GrowingKVCache>(mx::float32);
  };
  std::vector<KVCaches> together(3);
  std::vector<std::unique_ptr<KVCache>> alone;
  for (int i = 0; i < 3; ++i) {
    together[i].push_back(make(i));
    alone.push_back(make(i));
  }
  // Tokens of each text in each step; 0: it is not in that step.
  for (const auto& tokens : {std::array{5, 3, 1}, {1, 1, 1}, {0, 9, 2}, {1, 1, 0}, {300, 1, 1}, {0, 0, 4}, {1, 6, 1}}) {
    std::vector<BatchMember> members;
    std::vector<mx::array> keys;
    for (int i = 0; i < 3; ++i) {
      if (tokens[i] == 0) continue;
      members.push_back({&together[i], tokens[i]});
      keys.push_back(numbered(alone[i]->offset() + 1, tokens[i], /* batch */ 1));
    }
    auto caches = batched(members);
    ASSERT_EQ(caches.size(), 1u);
    auto& batch = kv(*caches[0]);
    const auto all = mx::concatenate(keys, 1);
    const auto runs = batch.runs(all.shape(1));
    const auto view = batch.update(all, mx::negative(all), 0);
    ASSERT_EQ(view.size(), members.size());
    size_t at = 0;
    for (int i = 0; i < 3; ++i) {
      if (tokens[i] == 0) continue;
      EXPECT_EQ(runs[at].tokens, tokens[i]);
      EXPECT_EQ(runs[at].position, alone[i]->offset());
      const auto wanted = alone[i]->update(keys[at], mx::negative(keys[at]), 0).at(0);
      EXPECT_EQ(together[i][0]->offset(), alone[i]->offset());
      for (int l : {0, tokens[i] - 1}) EXPECT_EQ(seen(view[at], l, 1), seen(wanted, l, 1)) << "text " << i;
      at += 1;
    }
    EXPECT_EQ(batch.arrays().size(), 2 * members.size());
  }
}

}  // namespace
}  // namespace mlx_lm::cache
