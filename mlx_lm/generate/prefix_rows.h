// What a text's caches hold, taken apart and put together again: rows that belong to one token each, which may be cut
// and joined anywhere, and the rest, which is only valid as a whole.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/cache/cache.h"
#include "mlx_lm/ops/kv_buffer.h"

namespace mlx_lm {
namespace mx = mlx::core;

// The rows of a run of tokens, of all layers: for each array and head of it, one after another.
using RowBytes = std::shared_ptr<const std::byte[]>;
// Whole caches, in the order of the layers.
using WholeCaches = std::shared_ptr<const cache::KVCaches>;

// How the caches of a model keep things, which two texts have to have in common to share rows.
class CacheForm {
 public:
  // Errors: RequestError for caches of more than one text.
  explicit CacheForm(const cache::KVCaches& caches);
  bool operator==(const CacheForm& other) const { return parts_ == other.parts_; }

  // There is nothing but rows.
  bool cuttable() const { return !whole_; }
  // Of one token.
  size_t row_bytes() const { return row_bytes_; }

  // Tokens [begin, end). Eval: requires evaluated caches.
  RowBytes take(const cache::KVCaches& caches, int begin, int end) const;
  // Of a run of n tokens: the first `at` (false), or those after them (true).
  RowBytes part(const RowBytes& rows, int n, int at, bool after) const;
  // Copies of what is no rows, in as little memory as there is; null if it is cuttable. Eval: forces them.
  WholeCaches take_whole(const cache::KVCaches& caches) const;

  // The first `used` of a run of `tokens`.
  struct Piece {
    RowBytes rows;
    int tokens, used;
  };
  // Caches that go on by themselves: of the pieces' rows, with room for `capacity`, and copies of the whole ones
  // without their last `trimmed` tokens.
  cache::KVCaches join(std::span<const Piece> pieces, const WholeCaches& whole, int trimmed, int capacity) const;

 private:
  struct Array {
    int heads, dim;
    mx::Dtype dtype;
    size_t row() const { return size_t(dim) * dtype.size(); }
    bool operator==(const Array&) const = default;
  };
  // One cache, those of a list after the list.
  struct Part {
    enum Kind { rows, whole, list } kind;
    int size = 0;  // of the list
    ops::KVFormat format = {};
    std::vector<Array> arrays = {};  // of keys, then of values
    bool operator==(const Part&) const = default;
  };
  struct Joining;
  void add(const cache::Cache& cache);
  std::unique_ptr<cache::Cache> join(Joining& joining) const;

  std::vector<Part> parts_;
  size_t row_bytes_ = 0;
  bool whole_ = false;
};

// Caches of such kinds, which may be empty yet, can be cut after any token.
bool cuttable(const cache::KVCaches& caches);

// Bytes of whole caches; 0 for null.
size_t nbytes(const WholeCaches& caches);

}  // namespace mlx_lm
