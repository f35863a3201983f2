#include "mlx_lm/cache/kv_cache.h"

#include <utility>

namespace mlx_lm::cache {
namespace {

mx::array enlarged(const std::optional<mx::array>& buffer, const mx::array& like, int rows, mx::Dtype dtype) {
  // like: (B, L, K, D)
  const int have = buffer ? buffer->shape(2) : 0;
  auto fresh = mx::zeros({like.shape(0), like.shape(2), rows - have, like.shape(3)}, dtype);
  return buffer ? mx::concatenate({*buffer, fresh}, 2) : fresh;
}

}  // namespace

std::vector<mx::array*> KVCache::arrays() {
  if (!keys_) return {};
  return {&*keys_, &*values_};
}

void KVCache::reserve(const mx::array& keys, const mx::array& values, int rows) {
  if (rows <= capacity()) return;
  // float32 activations (the CPU) are stored in the model's own, smaller type; others are of that type already.
  const auto dtype = keys.dtype() == mx::float32 ? dtype_ : keys.dtype();
  keys_ = enlarged(keys_, keys, rows, dtype);
  values_ = enlarged(values_, values, rows, dtype);
}

ops::KVView KVCache::update(const mx::array& keys, const mx::array& values, int window) {
  std::vector<Place> places;
  place(keys, values, keys.shape(1), window, places);
  std::vector<ops::KVSlot> slots;
  for (const auto& p : places) slots.push_back({&*p.cache->keys_, &*p.cache->values_, p.tokens, p.row});
  ops::write_rows(slots, keys, values);
  ops::KVView view;
  for (const auto& p : places) view.push_back({*p.cache->keys_, *p.cache->values_, p.tokens, p.span});
  return view;
}

void KVCache::detach(int rows) {
  if (rows == 0) keys_.reset(), values_.reset();
  for (mx::array* buffer : arrays()) {
    auto stop = buffer->shape();
    stop[2] = rows;
    // Into fresh memory: a slice would share the old, which the other cache goes on to write.
    const auto fresh = mx::zeros(stop, buffer->dtype());
    *buffer = mx::slice_update(fresh, mx::slice(*buffer, {0, 0, 0, 0}, stop), {0, 0, 0, 0}, stop);
  }
  mx::eval(state());
}

}  // namespace mlx_lm::cache
