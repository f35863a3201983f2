// A cache as a prompt-cache file keeps it; the file itself is load/prompt_cache.h.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "mlx_lm/cache/cache.h"

namespace mlx_lm::cache {

// What mlx-lm calls the cache, and the parts of its state by their place in it: "1" the second, "0.2" the third of the
// first.
//   KVCache                   keys, values, offset
//   RotatingKVCache           keys, values, offset, keep, max_size, index
//   ChunkedKVCache            keys, values, offset, chunk_size, start
//   QuantizedKVCache          (codes, scales, biases) of keys and of values, offset, group_size, bits
//   QuantizedRotatingKVCache  the same of both, offset, keep, max_size, index, group_size, bits; ours, for mlx-lm has
//   none
//   QuantizedChunkedKVCache   the same of both, offset, chunk_size, start, group_size, bits; ours too
//   ArraysCache               (the arrays of the state, each perhaps nothing), nothing, nothing
//   CacheList                 for each cache of the list (its own state, the name of its kind)
// Keys and values are (B, K, C, D) as ops::KVBuffer has them; index: the row after that of the newest token.
// start: the token of the first row, which is the first of the newest chunk in what we save.
struct SavedCache {
  std::string kind;
  std::map<std::string, mx::array> arrays;
  std::map<std::string, int> numbers;
  std::map<std::string, std::string> texts = {};
  std::set<std::string> nothing = {};
};

// Errors: RequestError for a cache that holds nothing yet, or of a kind that is not above. Eval: lazy.
SavedCache saved(const Cache& cache);

// The arrays are never written to: the cache copies them before it appends. `where`: for errors. An ArraysCache does
// not know its tokens: Cache::assume_offset tells it. Errors: WeightError for a kind that is not above or a state that
// contradicts itself.
std::unique_ptr<Cache> restored(const SavedCache& saved, const std::string& where);

}  // namespace mlx_lm::cache
