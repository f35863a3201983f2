#include "mlx_lm/cache/kv_cache.h"

#include <utility>

#include "mlx_lm/base/error.h"

namespace mlx_lm::cache {
namespace {

ops::KVBuffer enlarged(const std::optional<ops::KVBuffer>& buffer, const mx::array& like, int rows, mx::Dtype dtype,
                       const ops::KVFormat& format) {
  // like: (B, L, K, D)
  const int have = buffer ? buffer->rows() : 0;
  auto fresh = ops::KVBuffer::zeros(like.shape(0), like.shape(2), rows - have, like.shape(3), dtype, format);
  return buffer ? concatenated(*buffer, fresh) : fresh;
}

// The first so many rows, in fresh memory: a slice would share the old, and so does the update of a whole array.
mx::array copied(const mx::array& buffer, int rows) {
  auto stop = buffer.shape(), none = buffer.shape();
  stop[2] = rows, none[2] = 0;
  return mx::concatenate({mx::zeros(none, buffer.dtype()), mx::slice(buffer, {0, 0, 0, 0}, stop)}, 2);
}

}  // namespace

KVCache::KVCache(ops::KVBuffer keys, ops::KVBuffer values, int offset, bool borrowed)
    : dtype_(keys.dtype()),
      format_(keys.format),
      keys_(std::move(keys)),
      values_(std::move(values)),
      borrowed_(borrowed) {
  offset_ = offset;
}

std::vector<mx::array*> KVCache::arrays() {
  if (!keys_) return {};
  auto arrays = keys_->arrays();
  for (mx::array* array : values_->arrays()) arrays.push_back(array);
  return arrays;
}

void KVCache::reserve(const mx::array& keys, const mx::array& values, int rows) {
  if (rows <= capacity()) return;
  // float32 activations (the CPU) are stored in the model's own, smaller type; others are of that type already.
  const auto dtype = keys.dtype() == mx::float32 ? dtype_ : keys.dtype();
  borrowed_ = false;
  keys_ = enlarged(keys_, keys, rows, dtype, format_);
  values_ = enlarged(values_, values, rows, dtype, format_);
}

ops::KVView KVCache::update(const mx::array& keys, const mx::array& values, int window) {
  std::vector<Place> places;
  place(keys, values, keys.shape(1), window, places);
  std::vector<ops::KVSlot> slots;
  for (const auto& p : places) p.cache->own();
  for (const auto& p : places) slots.push_back({&*p.cache->keys_, &*p.cache->values_, p.tokens, p.row});
  ops::write_rows(slots, keys, values);
  ops::KVView view;
  for (const auto& p : places) view.push_back({*p.cache->keys_, *p.cache->values_, p.tokens, p.span});
  return view;
}

// KVCache::arrays(): a kind that has more of them sees to those itself.
void KVCache::own() {
  if (!borrowed_) return;
  for (mx::array* buffer : KVCache::arrays()) *buffer = copied(*buffer, buffer->shape(2));
  borrowed_ = false;
}

void KVCache::quantize(const ops::KVFormat& format) {
  if (format == format_) return;
  format.validate();
  if (format_.quantized()) {
    fail<RequestError>("[cache] kv-bits: expected {} by groups of {}, which the cache has, found {} by {}",
                       format_.bits, format_.group_size, format.bits, format.group_size);
  }
  if (keys_) {
    borrowed_ = false;
    keys_ = quantized(*keys_, format);
    values_ = quantized(*values_, format);
  }
  format_ = format;
}

void KVCache::detach(int rows) {
  if (rows == 0) keys_.reset(), values_.reset();
  for (mx::array* buffer : KVCache::arrays()) *buffer = copied(*buffer, rows);
  borrowed_ = false;
  mx::eval(state());
}

}  // namespace mlx_lm::cache
