// What texts have begun with, to go on from without computing it again: shared by all requests to a server.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "mlx_lm/generate/prefix_store.h"

namespace mlx_lm {

struct PrefixCacheOptions {
  size_t max_bytes = size_t(1) << 30;  // of memory
  int max_entries = 0;                 // texts that are held at most; 0: no limit
  PrefixStoreOptions disk = {};        // files too, if disk.dir is given
  int min_disk_tokens = 32;            // that a file must have more than memory has, to be read
  // Throws for caches that are not the model's of that key (check_prompt_cache()): asked of each file that is read.
  std::function<void(const std::string& key, const cache::KVCaches& caches, const std::string& where)> check = {};

  // Errors: RequestError that names the option.
  void validate() const;
};

// Rows that belong to one token each are held once for all texts that begin alike, and can be cut anywhere. Sliding
// windows and recurrent states are held as they were where insert() was called, and are good for texts that begin with
// all of that (or a little less: a window that is not full can be cut); so it pays to insert where texts will part,
// such as after a system prompt: SequenceOptions::snapshots. A text that goes on from what find() gives has the bits of
// one that goes on from the caches that were inserted. Threads: all calls on one thread.
class PrefixCache {
 public:
  // Errors: RequestError for options out of range; Error for a folder that cannot be written to.
  explicit PrefixCache(PrefixCacheOptions options = {});

  struct Found {
    cache::KVCaches caches;  // that go on by themselves; empty: nothing is held
    int tokens = 0;          // that they hold
  };
  // key: of what makes equal tokens equal caches: the model, its adapter, the format of the caches.
  // The longest beginning that is held and leaves at least one token of the prompt to compute. Cost: a copy of the
  // rows.
  Found find(const std::string& key, std::span<const int> tokens);
  // How many tokens find() would have from memory. It counts as a use, and not as a lookup.
  int longest(const std::string& key, std::span<const int> tokens);

  // Holds what the caches have of these tokens: they may have seen more, if that can be taken back, and may go on.
  // False if it cannot be held: for that reason, or for more bytes than the budget has. What is held already stays as
  // it is. Errors: RequestError for no tokens, or caches of fewer. Eval: forces what the caches hold.
  bool insert(const std::string& key, std::span<const int> tokens, const cache::KVCaches& caches);

  // What is held in memory, never more than max_bytes: rows, whole caches, tokens, and some for each node.
  size_t bytes() const { return tree_.bytes(); }
  // Texts of which no other is a beginning.
  int entries() const { return tree_.entries(); }

  struct Stats {
    int lookups = 0, hits = 0;
    int disk_hits = 0;       // of these, from a file
    int64_t tokens = 0;      // of all prompts
    int64_t tokens_hit = 0;  // that were found
    int inserted = 0, refused = 0;
    int evictions = 0;  // from memory
    size_t bytes = 0;
    int entries = 0;
    PrefixStore::Stats disk = {};
  };
  Stats stats() const;
  // Waits until all files are written.
  void flush();

 private:
  bool insert(const std::string& key, std::span<const int> tokens, const cache::KVCaches& caches, bool to_disk);

  PrefixCacheOptions options_;
  PrefixTree tree_;
  std::unique_ptr<PrefixStore> store_;
  Stats stats_;
};

}  // namespace mlx_lm
