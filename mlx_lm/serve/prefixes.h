// What the texts of requests have begun with, held for those to come.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "mlx_lm/generate/batch_generator.h"
#include "mlx_lm/generate/prefix_cache.h"
#include "mlx_lm/serve/metrics.h"
#include "mlx_lm/serve/served_model.h"

namespace mlx_lm::serve {

// A PrefixCache for all models. Threads: the engine's.
class Prefixes {
 public:
  // cache.max_bytes 0: nothing is held. metrics must outlive it. Errors: as of PrefixCache.
  Prefixes(PrefixCacheOptions cache, const BatchOptions& batch, Metrics& metrics);
  Prefixes(const Prefixes&) = delete;
  Prefixes& operator=(const Prefixes&) = delete;

  // Tokens of a prompt that are held in memory.
  int longest(const ServedModel& model, std::span<const int> prompt);
  // Lets a sequence go on from what is held of its prompt, and hold what it computes of it: all but the last token and,
  // where caches cannot be cut, what stands before each of `parts`. Returns how
  // many tokens were found; the sequence's prompt is what is after them.
  int begin(const std::shared_ptr<const ServedModel>& model, const std::shared_ptr<const std::vector<int>>& prompt,
            const std::vector<int>& parts, SequenceOptions& options);
  // Holds a text that is done, as far as the caches have it.
  void hold(const ServedModel& model, std::span<const int> tokens, const cache::KVCaches& caches);

 private:
  std::string key(const ServedModel& model) const;
  void insert(const ServedModel& model, std::span<const int> tokens, const cache::KVCaches& caches);

  std::string format_;  // of the caches
  Metrics& metrics_;
  const models::LanguageModel* reading_ = nullptr;  // the model whose files are read
  std::unique_ptr<PrefixCache> cache_;
};

}  // namespace mlx_lm::serve
