// The part of a prefix cache that outlives the program: a folder of prompt-cache files.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "mlx_lm/generate/prefix_tree.h"

namespace mlx_lm {

struct PrefixStoreOptions {
  std::filesystem::path dir;                         // made if it is not there
  uint64_t max_bytes = uint64_t(16) << 30;           // of our files; the least recently used go first
  uint64_t max_write_bytes_per_hour = 0;             // further ones are not written; 0: no limit
  uint64_t max_waiting_bytes = uint64_t(256) << 20;  // that wait to be written; further ones are not
  // What the hours are counted by; the system's steady clock unless a test has its own.
  std::function<std::chrono::steady_clock::time_point()> now = std::chrono::steady_clock::now;
};

// Each text is a file of its own: prefix-<of key>-<of tokens>.safetensors, with its key, tokens and a SHA-256 of all
// that is read of it. Files of other names are never touched; several processes may use a folder at once. Files are
// written by a thread of its own, which ends with the store, after what waits is written. Threads: one at a time.
class PrefixStore {
 public:
  // Reads the headers of the files there are. Errors: Error for a folder that cannot be made or written to.
  explicit PrefixStore(PrefixStoreOptions options);
  ~PrefixStore();

  // How many of the first `limit` tokens the best file has, at least.
  int longest(const std::string& key, std::span<const int> tokens, int limit) const;
  struct Text {
    std::vector<int> tokens;
    cache::KVCaches caches;  // over the mapped file
  };
  // That file's. check: throws for caches that are not the model's. None if it is gone, or proves to be damaged, which
  // deletes it; then longest() has another answer.
  using Check = std::function<void(const cache::KVCaches& caches, const std::string& where)>;
  std::optional<Text> load(const std::string& key, std::span<const int> tokens, int limit, const Check& check);

  // Writes it later. A text that it goes on from and that can be cut anywhere is replaced.
  void write(const std::string& key, std::span<const int> tokens, HeldPrefix prefix);
  // Waits until nothing waits.
  void flush();

  struct Stats {
    int files = 0;    // that are known
    int written = 0;  // files
    uint64_t written_bytes = 0;
    int skipped = 0;  // not written, for a limit's sake
    int removed = 0;  // for max_bytes
    int damaged = 0;  // found when they were read
    int errors = 0;   // of writing; after the first nothing more is written
  };
  Stats stats() const;

 private:
  struct Entry {
    std::filesystem::path file;
    std::string key;  // its hash
    std::vector<int> tokens;
    bool cuttable;
  };
  struct Job {
    std::string key;
    std::vector<int> tokens;
    HeldPrefix prefix;
    size_t bytes;
  };
  void read_index();
  const Entry* best(const std::string& key_hash, std::span<const int> tokens, int limit, int* common) const;
  void run();
  void write(const Job& job);
  bool afford(uint64_t bytes);
  bool make_room(uint64_t bytes);
  void forget(const std::filesystem::path& file);

  PrefixStoreOptions options_;
  mutable std::mutex mutex_;  // of all below but allowance_ and refilled_, which are the writer's
  std::condition_variable changed_;
  std::vector<Entry> entries_;
  std::deque<Job> jobs_;
  size_t waiting_bytes_ = 0;
  bool busy_ = false, stop_ = false;
  Stats stats_;
  double allowance_ = 0;
  std::chrono::steady_clock::time_point refilled_;
  std::thread writer_;
};

}  // namespace mlx_lm
