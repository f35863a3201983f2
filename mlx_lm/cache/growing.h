// The plain cache: keeps every token. Source: mlx-lm's KVCache.
#pragma once

#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm::cache {

class GrowingKVCache final : public KVCache {
 public:
  explicit GrowingKVCache(mx::Dtype dtype) : KVCache(dtype) {}

  KVView update(const mx::array& keys, const mx::array& values, int window) override;
  bool is_trimmable() const override { return true; }
  int trim(int n) override;
};

}  // namespace mlx_lm::cache
