// The cache of an attention layer: keys and values of every token so far.
#pragma once

#include <optional>
#include <vector>

#include "mlx_lm/cache/cache.h"
#include "mlx_lm/ops/attention.h"

namespace mlx_lm::cache {

class KVCache : public Cache {
 public:
  // Where the next tokens stand.
  virtual ops::Runs runs(int tokens) const { return {{tokens, offset_}}; }

  // Appends the keys and values of L new tokens, both (B, L, K, D) and already rotated to their positions, and returns
  // what their queries attend.
  // window: how many tokens back the layer sees, itself included; 0 for all.
  ops::KVView update(const mx::array& keys, const mx::array& values, int window);

  // Keeps keys and values so from here on, those it has included. Errors: RequestError for a format that does not fit
  // the model, or another one than it is quantized to already. Eval: lazy.
  // Source: mlx-lm's KVCache.to_quantized (which has it for the growing cache only).
  void quantize(const ops::KVFormat& format);
  const ops::KVFormat& format() const { return format_; }

  // The buffers; null before the first step.
  const std::optional<ops::KVBuffer>& keys() const { return keys_; }
  const std::optional<ops::KVBuffer>& values() const { return values_; }

  std::vector<mx::array*> arrays() override;

 protected:
  // Rows that were made free for new tokens, and what those tokens see.
  struct Place {
    KVCache* cache;
    int tokens;
    int row;
    ops::Span span;
  };
  // Makes room for so many new tokens, counts them as seen, and appends where they go. keys, values: of the step, for
  // their shapes and type.
  virtual void place(const mx::array& keys, const mx::array& values, int tokens, int window,
                     std::vector<Place>& places) = 0;
  // Another cache's place().
  static void place_in(KVCache& cache, const mx::array& keys, const mx::array& values, int tokens, int window,
                       std::vector<Place>& places) {
    cache.place(keys, values, tokens, window, places);
  }

  // dtype: the floating type to store (the model's own); on a GPU, that of the arrays that come in.
  explicit KVCache(mx::Dtype dtype) : dtype_(dtype) {}
  // Goes on from buffers that hold so many tokens; borrowed: that are not to be written to.
  KVCache(ops::KVBuffer keys, ops::KVBuffer values, int offset, bool borrowed = true);

  // Makes or enlarges the buffers to the given number of rows, keeping the rows there are.
  void reserve(const mx::array& keys, const mx::array& values, int rows);
  // Rows of the buffers; 0 before the first reserve.
  int capacity() const { return keys_ ? keys_->rows() : 0; }
  // Gives this copy, made by the copy constructor, buffers of its own, with the first so many rows. Eval: forces.
  void detach(int rows);

  static constexpr int kStep = 256;  // rows; buffers grow by a multiple of it, as mlx-lm's do

  mx::Dtype dtype_;
  ops::KVFormat format_;
  std::optional<ops::KVBuffer> keys_, values_;

 private:
  // Replaces buffers that are not to be written to. Eval: lazy.
  void own();
  bool borrowed_ = false;
};

// A layer's cache, where it is one of keys and values (a model that asks made it so).
inline KVCache& kv(Cache& cache) { return dynamic_cast<KVCache&>(cache); }

}  // namespace mlx_lm::cache
