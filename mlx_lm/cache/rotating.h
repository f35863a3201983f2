// A cache of bounded size: once full, new tokens overwrite the oldest. Source: mlx-lm's RotatingKVCache.
//
// Single tokens go into a ring in place. A longer step first puts the ring into temporal order and appends, so that
// each of its queries still finds the max_size - 1 tokens before it; the next single token cuts the surplus off.
#pragma once

#include <algorithm>
#include <limits>

#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm::cache {

class RotatingKVCache final : public KVCache {
 public:
  // max_size: tokens kept, at least 1; keep: of these, the first ones of the text that are never overwritten.
  // Errors: RequestError unless 0 <= keep < max_size.
  RotatingKVCache(mx::Dtype dtype, int max_size, int keep = 0);
  // Goes on from buffers that are not to be written to. next: the row after that of the newest token. Requires what
  // restored() checks.
  RotatingKVCache(ops::KVBuffer keys, ops::KVBuffer values, int offset, int max_size, int keep, int next)
      : KVCache(std::move(keys), std::move(values), offset), max_size_(max_size), keep_(keep), next_(next) {}

  int trimmable() const override { return offset_ < max_size_ ? offset_ : appended_; }
  int trim(int n) override;
  // In a longer step of a full ring the pinned tokens leave the window, as in mlx-lm.
  int draftable() const override {
    return keep_ == 0 ? std::numeric_limits<int>::max() : std::max(1, max_size_ - offset_);
  }
  // Lets go of the rows that no later token sees, which a longer step leaves behind; it cannot be trimmed then. What
  // follows is the same. Eval: lazy.
  void compact();
  std::unique_ptr<Cache> copy() const override;
  std::unique_ptr<Cache> shallow_copy() const override { return std::make_unique<RotatingKVCache>(*this); }

  int max_size() const { return max_size_; }
  int keep() const { return keep_; }
  int next() const { return next_; }

 private:
  // window: 0, or at least max_size (a smaller one is the cache's own max_size to set).
  void place(const mx::array& keys, const mx::array& values, int tokens, int window,
             std::vector<Place>& places) override;
  void append(const mx::array& keys, const mx::array& values, int tokens);
  void put(const mx::array& keys, const mx::array& values);
  void order_and_cut(int surplus);

  int max_size_;
  int keep_;
  int next_ = 0;      // row of the next token, if the ring does not wrap first
  int appended_ = 0;  // tokens of the last step for which nothing was overwritten
};

}  // namespace mlx_lm::cache
