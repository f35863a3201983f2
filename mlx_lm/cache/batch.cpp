#include "mlx_lm/cache/batch.h"

#include <stdexcept>

#include "mlx_lm/cache/cache_list.h"
#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/cache/state.h"

namespace mlx_lm::cache {
namespace {

// One layer's cache of a text, and its tokens.
template <class C>
struct Text {
  C* cache;
  int tokens;
};
template <class C>
using Texts = std::vector<Text<C>>;

// What a step's caches of any kind C are.
template <class C>
class BatchOf : public C {
 public:
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

 protected:
  template <class... Args>
  explicit BatchOf(Texts<C> texts, Args... args) : C(args...), texts_(std::move(texts)) {}

  Texts<C> texts_;
};

class BatchKVCache final : public BatchOf<KVCache> {
 public:
  explicit BatchKVCache(Texts<KVCache> texts) : BatchOf(std::move(texts), mx::float32) {}

  ops::Runs runs(int) const override {
    ops::Runs runs;
    for (const auto& text : texts_) runs.push_back({text.tokens, text.cache->offset()});
    return runs;
  }

 private:
  void place(const mx::array& keys, const mx::array& values, int, int window, std::vector<Place>& places) override {
    for (const auto& text : texts_) place_in(*text.cache, keys, values, text.tokens, window, places);
  }
};

class BatchStateCache final : public BatchOf<StateCache> {
 public:
  explicit BatchStateCache(Texts<StateCache> texts) : BatchOf(std::move(texts), 0) {}

  ops::StateRuns runs(int i, int) override {
    ops::StateRuns runs;
    for (const auto& text : texts_) runs.push_back(text.cache->runs(i, text.tokens)[0]);
    return runs;
  }

  void advance(int) override {
    for (const auto& text : texts_) text.cache->advance(text.tokens);
  }
};

template <class C>
Texts<C> all_of(const Texts<Cache>& texts) {
  Texts<C> same;
  for (const auto& text : texts) same.push_back({&dynamic_cast<C&>(*text.cache), text.tokens});
  return same;
}

std::unique_ptr<Cache> batched(const Texts<Cache>& texts) {
  if (dynamic_cast<StateCache*>(texts[0].cache)) return std::make_unique<BatchStateCache>(all_of<StateCache>(texts));
  auto* first = dynamic_cast<CacheList*>(texts[0].cache);
  if (!first) return std::make_unique<BatchKVCache>(all_of<KVCache>(texts));
  KVCaches parts;
  for (size_t i = 0; i < first->caches().size(); ++i) {
    Texts<Cache> part;
    for (const auto& text : texts) part.push_back({&list(*text.cache)[int(i)], text.tokens});
    parts.push_back(batched(part));
  }
  return std::make_unique<CacheList>(std::move(parts));
}

}  // namespace

KVCaches batched(std::span<const BatchMember> members) {
  KVCaches caches;
  for (size_t layer = 0; layer < members[0].caches->size(); ++layer) {
    Texts<Cache> texts;
    for (const auto& member : members) texts.push_back({(*member.caches)[layer].get(), member.tokens});
    caches.push_back(batched(texts));
  }
  return caches;
}

}  // namespace mlx_lm::cache
