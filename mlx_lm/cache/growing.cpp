#include "mlx_lm/cache/growing.h"

#include <algorithm>

namespace mlx_lm::cache {

void GrowingKVCache::place(const mx::array& keys, const mx::array& values, int tokens, int window,
                           std::vector<Place>& places) {
  const int start = offset_;
  offset_ += tokens;
  if (offset_ > capacity()) {
    // A quarter more than there was, so that a long text is not copied every 256 tokens.
    const int wanted = std::max(offset_, capacity() + capacity() / 4);
    reserve(keys, values, (wanted + kStep - 1) / kStep * kStep);
  }
  places.push_back({this, tokens, start, {.length = offset_, .start = start, .window = window}});
}

int GrowingKVCache::trim(int n) {
  n = std::min(n, offset_);
  offset_ -= n;
  return n;
}

std::unique_ptr<Cache> GrowingKVCache::copy() const {
  auto copy = std::make_unique<GrowingKVCache>(*this);
  copy->detach(offset_);
  return copy;
}

}  // namespace mlx_lm::cache
