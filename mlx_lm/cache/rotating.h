// A cache of bounded size: once full, new tokens overwrite the oldest. Source: mlx-lm's RotatingKVCache.
//
// Single tokens go into a ring in place. A longer step first puts the ring into temporal order and appends, so that
// each of its queries still finds the max_size - 1 tokens before it; the next single token cuts the surplus off.
#pragma once

#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm::cache {

class RotatingKVCache final : public KVCache {
 public:
  // max_size: tokens kept, at least 1; keep: of these, the first ones of the text that are never overwritten.
  // Errors: RequestError unless 0 <= keep < max_size.
  RotatingKVCache(mx::Dtype dtype, int max_size, int keep = 0);

  // window: 0, or at least max_size (a smaller one is the cache's own max_size to set).
  KVView update(const mx::array& keys, const mx::array& values, int window) override;
  bool is_trimmable() const override { return offset_ < max_size_; }
  int trim(int n) override;

  int max_size() const { return max_size_; }

 private:
  void append(const mx::array& keys, const mx::array& values);
  void put(const mx::array& keys, const mx::array& values);
  void order_and_cut(int surplus);

  int max_size_;
  int keep_;
  int next_ = 0;  // row of the next token, if the ring does not wrap first
};

}  // namespace mlx_lm::cache
