// The plain cache: keeps every token. Source: mlx-lm's KVCache.
#pragma once

#include <limits>

#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm::cache {

class GrowingKVCache final : public KVCache {
 public:
  explicit GrowingKVCache(mx::Dtype dtype) : KVCache(dtype) {}

  int trimmable() const override { return offset_; }
  int trim(int n) override;
  int draftable() const override { return std::numeric_limits<int>::max(); }
  std::unique_ptr<Cache> copy() const override;

 private:
  void place(const mx::array& keys, const mx::array& values, int tokens, int window,
             std::vector<Place>& places) override;
};

}  // namespace mlx_lm::cache
