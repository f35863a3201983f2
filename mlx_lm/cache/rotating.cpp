#include "mlx_lm/cache/rotating.h"

#include <algorithm>

#include "mlx_lm/base/error.h"

namespace mlx_lm::cache {
namespace {

// Rows [begin, end) of an array (B, K, C, ...).
mx::array rows(const mx::array& array, int begin, int end) {
  auto stop = array.shape();
  stop[2] = end;
  return mx::slice(array, {0, 0, begin, 0}, stop);
}

}  // namespace

RotatingKVCache::RotatingKVCache(mx::Dtype dtype, int max_size, int keep)
    : KVCache(dtype), max_size_(max_size), keep_(keep) {
  if (max_size < 1 || keep < 0 || keep >= max_size) {
    fail<RequestError>("[cache] max_kv_size: expected more than {} (tokens always kept), found {}", std::max(keep, 0),
                       max_size);
  }
}

void RotatingKVCache::place(const mx::array& keys, const mx::array& values, int tokens, int window,
                            std::vector<Place>& places) {
  if (tokens == 1) {
    put(keys, values);
    // The ring holds exactly what the token may see, in any order.
    const int length = std::min(offset_, capacity());
    places.push_back({this, 1, next_ - 1, {.length = length, .start = length - 1, .window = 0}});
    return;
  }
  append(keys, values, tokens);
  places.push_back({this,
                    tokens,
                    next_ - tokens,
                    {.length = next_, .start = next_ - tokens, .window = window > 0 ? window : max_size_}});
}

// Oldest row first, without the unused tail and without `surplus` rows after the pinned ones.
void RotatingKVCache::order_and_cut(int surplus) {
  const int held = capacity();  // of both buffers: capacity() itself changes with the first
  for (mx::array* buffer : arrays()) {
    auto ordered = *buffer;
    if (next_ < offset_ && next_ != held) {
      ordered = mx::concatenate({rows(ordered, 0, keep_), rows(ordered, next_, held), rows(ordered, keep_, next_)}, 2);
    } else if (next_ < held) {
      ordered = rows(ordered, 0, next_);
    }
    if (surplus > 0) {
      ordered = mx::concatenate({rows(ordered, 0, keep_), rows(ordered, keep_ + surplus, ordered.shape(2))}, 2);
    }
    *buffer = ordered;
  }
}

void RotatingKVCache::append(const mx::array& keys, const mx::array& values, int tokens) {
  if (keys_) {
    const int held = next_ < offset_ ? capacity() : next_;
    order_and_cut(std::max(0, held - max_size_ + 1));
  }
  const int held = capacity();
  reserve(keys, values, held + tokens);
  offset_ += tokens;
  next_ = held + tokens;
  appended_ = tokens;
}

void RotatingKVCache::put(const mx::array& keys, const mx::array& values) {
  if (offset_ >= capacity() && capacity() < max_size_) {
    next_ = capacity();
    reserve(keys, values, std::min(max_size_, capacity() + kStep));
  }
  if (const int surplus = capacity() - max_size_; surplus > 0) {
    order_and_cut(surplus);
    next_ = max_size_;
  }
  if (next_ == max_size_) next_ = keep_;
  offset_ += 1;
  next_ += 1;
  appended_ = 0;
}

void RotatingKVCache::compact() {
  const int surplus = capacity() - max_size_;
  if (surplus <= 0 || next_ != capacity()) return;
  order_and_cut(surplus);
  next_ = max_size_;
  appended_ = 0;
}

int RotatingKVCache::trim(int n) {
  n = std::min(n, trimmable());
  if (offset_ >= max_size_ && n > 0) {
    // The rows stand in the order of the text, and those before are all there still.
    for (mx::array* buffer : arrays()) *buffer = rows(*buffer, 0, next_ - n);
    appended_ -= n;
  }
  offset_ -= n;
  next_ -= n;
  return n;
}

std::unique_ptr<Cache> RotatingKVCache::copy() const {
  auto copy = std::make_unique<RotatingKVCache>(*this);
  copy->detach(capacity());
  return copy;
}

}  // namespace mlx_lm::cache
