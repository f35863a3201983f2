// The KV cache: the only state that travels through a step. One interface, one file per kind.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/ops/ops.h"

namespace mlx_lm::cache {
namespace mx = mlx::core;

// What the queries of one step attend: buffers (B, K, C, D) and the rows of them that each query may see.
struct KVView {
  mx::array keys;
  mx::array values;
  ops::Span span;
};

// Keys and values of one layer for every token so far.
// Threads: one step at a time.
class KVCache {
 public:
  virtual ~KVCache() = default;

  // Appends the keys and values of L new tokens, both (B, L, K, D) and already rotated to their positions.
  // window: how many tokens back the layer sees, itself included; 0 for all.
  virtual KVView update(const mx::array& keys, const mx::array& values, int window) = 0;

  // Tokens seen so far, which is the position of the next one.
  int offset() const { return offset_; }

  // The last n tokens can be forgotten again (speculation, reuse of a prefix).
  virtual bool is_trimmable() const = 0;
  // Forgets the last min(n, offset) tokens and returns how many that was. Requires is_trimmable().
  virtual int trim(int n) = 0;

  // The arrays to evaluate; empty before the first update.
  std::vector<mx::array> state() const;
  // The same for ops::join, which replaces them.
  std::vector<mx::array*> arrays();
  size_t nbytes() const;

 protected:
  // keep: the floating type to store (the model's own); on a GPU, that of the arrays that come in.
  explicit KVCache(mx::Dtype dtype) : dtype_(dtype) {}

  // Makes or enlarges the buffers to the given number of rows, keeping the rows there are.
  void reserve(const mx::array& keys, const mx::array& values, int rows);
  // Rows of the buffers; 0 before the first reserve.
  int capacity() const { return keys_ ? keys_->shape(2) : 0; }
  void write(const mx::array& keys, const mx::array& values, int row);

  static constexpr int kStep = 256;  // rows; buffers grow by a multiple of it, as mlx-lm's do

  mx::Dtype dtype_;
  int offset_ = 0;
  std::optional<mx::array> keys_, values_;  // (B, K, C, D)
};

using KVCaches = std::vector<std::unique_ptr<KVCache>>;

}  // namespace mlx_lm::cache
