// Several caches of one layer. Source: mlx-lm's CacheList.
#pragma once

#include <utility>
#include <vector>

#include "mlx_lm/cache/cache.h"

namespace mlx_lm::cache {

class CacheList final : public Cache {
 public:
  // At least one.
  explicit CacheList(KVCaches caches) : caches_(std::move(caches)) {}

  Cache& operator[](int i) { return *caches_.at(i); }
  const KVCaches& caches() const { return caches_; }

  int offset() const override;
  void assume_offset(int tokens) override;
  int trimmable() const override { return cache::trimmable(caches_); }
  int trim(int n) override;
  int draftable() const override { return cache::draftable(caches_); }
  std::unique_ptr<Cache> copy() const override { return std::make_unique<CacheList>(cache::copy(caches_)); }
  std::unique_ptr<Cache> shallow_copy() const override {
    return std::make_unique<CacheList>(cache::shallow_copy(caches_));
  }
  std::vector<mx::array*> arrays() override;

 private:
  KVCaches caches_;
};

// A layer's cache, where it is a list (a model that asks made it so).
inline CacheList& list(Cache& cache) { return dynamic_cast<CacheList&>(cache); }

}  // namespace mlx_lm::cache
