#include "mlx_lm/cache/chunked.h"

#include <algorithm>

namespace mlx_lm::cache {

void ChunkedKVCache::place(const mx::array& keys, const mx::array& values, int tokens, int window,
                           std::vector<Place>& places) {
  const size_t first = places.size();
  earlier_.clear();
  while (tokens > 0) {
    if (offset_ - start_ == chunk_size_) {
      earlier_.push_back({GrowingKVCache(*this, chunk_size_), start_});
      for (size_t i = first; i < places.size(); ++i) {
        if (places[i].cache == this) places[i].cache = &earlier_.back().rows;
      }
      keys_.reset(), values_.reset();
      start_ = offset_;
    }
    const int row = offset_ - start_, n = std::min(tokens, chunk_size_ - row);
    if (row + n > capacity()) {
      const int wanted = std::max(row + n, capacity() + capacity() / 4);
      reserve(keys, values, std::min(chunk_size_, (wanted + kStep - 1) / kStep * kStep));
    }
    places.push_back({this, n, row, {.length = row + n, .start = row, .window = window}});
    offset_ += n;
    tokens -= n;
  }
}

int ChunkedKVCache::trim(int n) {
  n = std::min(n, trimmable());
  const int offset = offset_ - n;
  while (offset < start_) {
    auto& chunk = earlier_.back();
    const auto format = format_;
    start_ = chunk.start;
    static_cast<KVCache&>(*this) = chunk.rows;
    quantize(format);
    earlier_.pop_back();
  }
  offset_ = offset;
  return n;
}

std::unique_ptr<Cache> ChunkedKVCache::copy() const {
  auto copy = std::make_unique<ChunkedKVCache>(*this);
  for (auto& chunk : copy->earlier_) chunk.rows = dynamic_cast<GrowingKVCache&>(*chunk.rows.copy());
  copy->detach(std::min(offset_ - start_, capacity()));
  return copy;
}

std::vector<mx::array*> ChunkedKVCache::arrays() {
  auto arrays = KVCache::arrays();
  for (auto& chunk : earlier_) {
    for (mx::array* array : chunk.rows.arrays()) arrays.push_back(array);
  }
  return arrays;
}

}  // namespace mlx_lm::cache
