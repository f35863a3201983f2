// A cache for attention within chunks: a token sees those of its own chunk, chunk_size consecutive ones counted from
// the beginning of the text. Source: mlx-lm's ChunkedKVCache.
//
// Every chunk has buffers of its own, so that no query sees rows it should not. Those of the newest are this cache's;
// the chunks that the last step filled are kept until the next one, so that it can be taken back.
#pragma once

#include <deque>
#include <limits>

#include "mlx_lm/cache/growing.h"

namespace mlx_lm::cache {

class ChunkedKVCache final : public KVCache {
 public:
  // chunk_size: tokens, at least 1.
  ChunkedKVCache(mx::Dtype dtype, int chunk_size) : KVCache(dtype), chunk_size_(chunk_size) {}
  // Goes on from buffers that are not to be written to, whose first row is token `start`, the first of a chunk.
  // Requires start <= offset <= start + chunk_size, and rows for the tokens between.
  ChunkedKVCache(ops::KVBuffer keys, ops::KVBuffer values, int offset, int chunk_size, int start)
      : KVCache(std::move(keys), std::move(values), offset), chunk_size_(chunk_size), start_(start) {}

  int trimmable() const override { return offset_ - (earlier_.empty() ? start_ : earlier_.front().start); }
  int trim(int n) override;
  int draftable() const override { return std::numeric_limits<int>::max(); }
  std::unique_ptr<Cache> copy() const override;
  std::unique_ptr<Cache> shallow_copy() const override { return std::make_unique<ChunkedKVCache>(*this); }
  std::vector<mx::array*> arrays() override;

  int chunk_size() const { return chunk_size_; }
  // Where the newest chunk begins.
  int start() const { return start_; }

 private:
  struct Chunk {
    GrowingKVCache rows;
    int start;
  };
  void place(const mx::array& keys, const mx::array& values, int tokens, int window,
             std::vector<Place>& places) override;

  int chunk_size_;
  int start_ = 0;
  std::deque<Chunk> earlier_;  // whole chunks, one after another up to start_
};

}  // namespace mlx_lm::cache
