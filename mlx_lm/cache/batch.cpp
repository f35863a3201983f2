#include "mlx_lm/cache/batch.h"

#include <stdexcept>

#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm::cache {
namespace {

class BatchKVCache final : public KVCache {
 public:
  // One layer's.
  struct Text {
    KVCache* cache;
    int tokens;
  };
  explicit BatchKVCache(std::vector<Text> texts) : KVCache(mx::float32), texts_(std::move(texts)) {}

  ops::Runs runs(int) const override {
    ops::Runs runs;
    for (const auto& text : texts_) runs.push_back({text.tokens, text.cache->offset()});
    return runs;
  }

  std::vector<mx::array*> arrays() override {
    std::vector<mx::array*> arrays;
    for (const auto& text : texts_) {
      for (mx::array* array : text.cache->arrays()) arrays.push_back(array);
    }
    return arrays;
  }

  int trimmable() const override { return 0; }
  int trim(int) override { return 0; }
  int draftable() const override { return 1; }
  std::unique_ptr<Cache> copy() const override { throw std::logic_error("the caches of a step are not to be copied"); }
  std::unique_ptr<Cache> shallow_copy() const override { return copy(); }

 private:
  void place(const mx::array& keys, const mx::array& values, int, int window, std::vector<Place>& places) override {
    for (const auto& text : texts_) place_in(*text.cache, keys, values, text.tokens, window, places);
  }

  std::vector<Text> texts_;
};

}  // namespace

KVCaches batched(std::span<const BatchMember> members) {
  KVCaches caches;
  for (size_t layer = 0; layer < members[0].caches->size(); ++layer) {
    std::vector<BatchKVCache::Text> texts;
    for (const auto& member : members) texts.push_back({&kv(*(*member.caches)[layer]), member.tokens});
    caches.push_back(std::make_unique<BatchKVCache>(std::move(texts)));
  }
  return caches;
}

}  // namespace mlx_lm::cache
