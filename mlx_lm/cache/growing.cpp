#include "mlx_lm/cache/growing.h"

#include <algorithm>

namespace mlx_lm::cache {

KVView GrowingKVCache::update(const mx::array& keys, const mx::array& values, int window) {
  const int start = offset_;
  offset_ += keys.shape(1);
  if (offset_ > capacity()) {
    // A quarter more than there was, so that a long text is not copied every 256 tokens.
    const int wanted = std::max(offset_, capacity() + capacity() / 4);
    reserve(keys, values, (wanted + kStep - 1) / kStep * kStep);
  }
  write(keys, values, start);
  return {*keys_, *values_, {.length = offset_, .start = start, .window = window}};
}

int GrowingKVCache::trim(int n) {
  n = std::min(n, offset_);
  offset_ -= n;
  return n;
}

}  // namespace mlx_lm::cache
