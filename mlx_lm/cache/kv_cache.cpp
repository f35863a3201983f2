#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm::cache {
namespace {

mx::array enlarged(const std::optional<mx::array>& buffer, const mx::array& like, int rows, mx::Dtype dtype) {
  // like: (B, L, K, D)
  const int have = buffer ? buffer->shape(2) : 0;
  auto fresh = mx::zeros({like.shape(0), like.shape(2), rows - have, like.shape(3)}, dtype);
  return buffer ? mx::concatenate({*buffer, fresh}, 2) : fresh;
}

}  // namespace

std::vector<mx::array> KVCache::state() const {
  if (!keys_) return {};
  return {*keys_, *values_};
}

std::vector<mx::array*> KVCache::arrays() {
  if (!keys_) return {};
  return {&*keys_, &*values_};
}

size_t KVCache::nbytes() const { return keys_ ? keys_->nbytes() + values_->nbytes() : 0; }

void KVCache::reserve(const mx::array& keys, const mx::array& values, int rows) {
  if (rows <= capacity()) return;
  // float32 activations (the CPU) are stored in the model's own, smaller type; others are of that type already.
  const auto dtype = keys.dtype() == mx::float32 ? dtype_ : keys.dtype();
  keys_ = enlarged(keys_, keys, rows, dtype);
  values_ = enlarged(values_, values, rows, dtype);
}

void KVCache::write(const mx::array& keys, const mx::array& values, int row) {
  // The members are moved out first: a buffer that nothing else holds is written in place.
  auto old_keys = std::move(*keys_);
  auto old_values = std::move(*values_);
  auto [new_keys, new_values] = ops::write_rows(old_keys, old_values, keys, values, row);
  keys_ = std::move(new_keys);
  values_ = std::move(new_values);
}

}  // namespace mlx_lm::cache
