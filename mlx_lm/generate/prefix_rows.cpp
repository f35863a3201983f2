#include "mlx_lm/generate/prefix_rows.h"

#include <cstring>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/cache_list.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/rotating.h"
#include "mlx_lm/cache/state.h"
#include "mlx_lm/load/mapped_array.h"

namespace mlx_lm {
namespace {

const cache::KVCache* row_cache(const cache::Cache& cache) {
  const auto* growing = dynamic_cast<const cache::GrowingKVCache*>(&cache);
  return growing && growing->keys() ? growing : nullptr;
}

// Calls f with each cache that is no list.
template <class F>
void each(const cache::KVCaches& caches, F f) {
  for (const auto& cache : caches) {
    if (const auto* list = dynamic_cast<const cache::CacheList*>(cache.get())) {
      each(list->caches(), f);
    } else {
      f(*cache);
    }
  }
}

std::vector<mx::array> arrays_of(const cache::KVCache& cache) {
  auto arrays = cache.keys()->arrays();
  for (auto& array : cache.values()->arrays()) arrays.push_back(array);
  return arrays;
}

// In memory of its own size.
mx::array fresh(const mx::array& x) {
  auto from = mx::contiguous(x);
  from.eval();
  auto [array, data] = new_array(x.shape(), x.dtype());
  if (x.nbytes() > 0) std::memcpy(data, from.data<char>(), x.nbytes());
  return array;
}

std::unique_ptr<cache::Cache> kept(const cache::Cache& cache) {
  if (const auto* states = dynamic_cast<const cache::StateCache*>(&cache)) {
    auto copies = states->states();
    for (auto& state : copies) {
      if (state) state = fresh(*state);
    }
    auto copy = std::make_unique<cache::StateCache>(std::move(copies));
    copy->assume_offset(cache.offset());
    return copy;
  }
  auto copy = cache.shallow_copy();
  if (auto* ring = dynamic_cast<cache::RotatingKVCache*>(copy.get())) ring->compact();
  return copy->copy();
}

}  // namespace

bool cuttable(const cache::KVCaches& caches) {
  bool all = true;
  each(caches,
       [&](const cache::Cache& cache) { all &= dynamic_cast<const cache::GrowingKVCache*>(&cache) != nullptr; });
  return all;
}

size_t nbytes(const WholeCaches& caches) { return caches ? cache::nbytes(*caches) : 0; }

CacheForm::CacheForm(const cache::KVCaches& caches) {
  for (const auto& cache : caches) add(*cache);
}

void CacheForm::add(const cache::Cache& cache) {
  if (const auto* list = dynamic_cast<const cache::CacheList*>(&cache)) {
    parts_.push_back({Part::list, int(list->caches().size())});
    for (const auto& part : list->caches()) add(*part);
    return;
  }
  const auto* rows = row_cache(cache);
  if (!rows) {
    parts_.push_back({Part::whole});
    whole_ = true;
    return;
  }
  Part part{Part::rows, 0, rows->format()};
  for (const auto& array : arrays_of(*rows)) {
    if (array.shape(0) != 1) {
      fail<RequestError>("[prefix cache] caches: expected those of one text, found {}", array.shape(0));
    }
    part.arrays.push_back({array.shape(1), array.shape(3), array.dtype()});
    row_bytes_ += size_t(array.shape(1)) * part.arrays.back().row();
  }
  parts_.push_back(std::move(part));
}

RowBytes CacheForm::take(const cache::KVCaches& caches, int begin, int end) const {
  const size_t n = size_t(end - begin);
  auto bytes = std::make_shared_for_overwrite<std::byte[]>(n * row_bytes_);
  std::byte* to = bytes.get();
  each(caches, [&](const cache::Cache& cache) {
    const auto* rows = row_cache(cache);
    if (!rows) return;
    for (auto array : arrays_of(*rows)) {
      if (array.strides(3) != 1 || array.strides(2) != array.shape(3)) {
        array = mx::contiguous(array);
        array.eval();
      }
      const size_t row = size_t(array.shape(3)) * array.itemsize();
      for (int head = 0; head < array.shape(1); ++head) {
        const char* from = array.data<char>() + size_t(head) * size_t(array.strides(1)) * array.itemsize();
        std::memcpy(to, from + size_t(begin) * row, n * row);
        to += n * row;
      }
    }
  });
  return bytes;
}

RowBytes CacheForm::part(const RowBytes& rows, int n, int at, bool after) const {
  const int begin = after ? at : 0, count = after ? n - at : at;
  auto bytes = std::make_shared_for_overwrite<std::byte[]>(size_t(count) * row_bytes_);
  const std::byte* from = rows.get();
  std::byte* to = bytes.get();
  for (const auto& part : parts_) {
    for (const auto& array : part.arrays) {
      for (int head = 0; head < array.heads; ++head) {
        std::memcpy(to, from + size_t(begin) * array.row(), size_t(count) * array.row());
        from += size_t(n) * array.row();
        to += size_t(count) * array.row();
      }
    }
  }
  return bytes;
}

WholeCaches CacheForm::take_whole(const cache::KVCaches& caches) const {
  if (cuttable()) return nullptr;
  cache::KVCaches whole;
  each(caches, [&](const cache::Cache& cache) {
    if (!row_cache(cache)) whole.push_back(kept(cache));
  });
  return std::make_shared<const cache::KVCaches>(std::move(whole));
}

struct CacheForm::Joining {
  std::span<const Piece> pieces;
  const WholeCaches& whole;
  int trimmed, capacity;
  size_t part = 0, next_whole = 0, row = 0;  // where it is; row: bytes of a token before
};

cache::KVCaches CacheForm::join(std::span<const Piece> pieces, const WholeCaches& whole, int trimmed,
                                int capacity) const {
  Joining joining{pieces, whole, trimmed, capacity};
  cache::KVCaches caches;
  while (joining.part < parts_.size()) caches.push_back(join(joining));
  return caches;
}

std::unique_ptr<cache::Cache> CacheForm::join(Joining& joining) const {
  const auto& part = parts_[joining.part++];
  if (part.kind == Part::list) {
    cache::KVCaches caches;
    for (int i = 0; i < part.size; ++i) caches.push_back(join(joining));
    return std::make_unique<cache::CacheList>(std::move(caches));
  }
  if (part.kind == Part::whole) {
    auto cache = (*joining.whole)[joining.next_whole++]->copy();
    if (joining.trimmed > 0) cache->trim(joining.trimmed);
    return cache;
  }
  int tokens = 0;
  for (const auto& piece : joining.pieces) tokens += piece.used;
  std::vector<mx::array> arrays;
  for (const auto& form : part.arrays) {
    auto [array, data] = new_array({1, form.heads, joining.capacity, form.dim}, form.dtype);
    auto* to = static_cast<std::byte*>(data);
    for (int head = 0; head < form.heads; ++head) {
      auto* next = to + size_t(head) * size_t(joining.capacity) * form.row();
      for (const auto& piece : joining.pieces) {
        const auto* from = piece.rows.get() + size_t(piece.tokens) * (joining.row + size_t(head) * form.row());
        std::memcpy(next, from, size_t(piece.used) * form.row());
        next += size_t(piece.used) * form.row();
      }
      std::memset(next, 0, size_t(joining.capacity - tokens) * form.row());
    }
    joining.row += size_t(form.heads) * form.row();
    arrays.push_back(std::move(array));
  }
  const auto buffer = [&](size_t first) -> ops::KVBuffer {
    if (!part.format.quantized()) return arrays[first];
    return {arrays[first], arrays[first + 1], arrays[first + 2], part.format};
  };
  return std::make_unique<cache::GrowingKVCache>(buffer(0), buffer(arrays.size() / 2), tokens, /* borrowed */ false);
}

}  // namespace mlx_lm
