// The plain cache: keeps every token. Source: mlx-lm's KVCache.
#pragma once

#include <limits>

#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm::cache {

class GrowingKVCache final : public KVCache {
 public:
  explicit GrowingKVCache(mx::Dtype dtype) : KVCache(dtype) {}
  // Goes on from buffers that hold so many tokens; borrowed: that are not to be written to. Requires 0 < offset <=
  // rows.
  GrowingKVCache(ops::KVBuffer keys, ops::KVBuffer values, int offset, bool borrowed = true)
      : KVCache(std::move(keys), std::move(values), offset, borrowed) {}
  // Takes over the buffers of another cache, of which so many rows are used.
  GrowingKVCache(const KVCache& other, int rows) : KVCache(other) { offset_ = rows; }

  int trimmable() const override { return offset_; }
  int trim(int n) override;
  int draftable() const override { return std::numeric_limits<int>::max(); }
  std::unique_ptr<Cache> copy() const override;
  std::unique_ptr<Cache> shallow_copy() const override { return std::make_unique<GrowingKVCache>(*this); }

 private:
  void place(const mx::array& keys, const mx::array& values, int tokens, int window,
             std::vector<Place>& places) override;
};

}  // namespace mlx_lm::cache
