// How much memory a text's caches will take, before the text is there.
#pragma once

#include <vector>

#include "mlx_lm/cache/cache.h"

namespace mlx_lm::cache {

// Learned from caches that hold a few tokens. Errors in its estimate are to the safe side: a format that gets smaller
// later (quantized_kv_start) counts as it is at first.
class Footprint {
 public:
  Footprint() = default;
  // step: tokens that a ring takes up at once, at most, beside those that it keeps.
  Footprint(const KVCaches& caches, int step);

  // Bytes for so many tokens.
  size_t operator()(int tokens) const;

 private:
  void add(const Cache& cache, int step);

  struct Rows {
    size_t bytes;  // of one
    int most;
  };
  std::vector<Rows> rows_;
  size_t fixed_ = 0;
};

}  // namespace mlx_lm::cache
