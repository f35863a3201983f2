#include "mlx_lm/generate/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/steps.h"

namespace mlx_lm {
namespace {

// Rows that buffers come in, and at least so many for an answer.
constexpr int kRows = 256;

int capacity(size_t prompt) { return (int(prompt) + 2 * kRows - 1) / kRows * kRows; }

}  // namespace

void PrefixCacheOptions::validate() const {
  const auto check = [](const char* name, int value) {
    if (value < 0) fail<RequestError>("[prefix cache] {}: expected 0 or more, found {}", name, value);
  };
  check("max_entries", max_entries);
  check("min_disk_tokens", min_disk_tokens);
}

PrefixCache::PrefixCache(PrefixCacheOptions options)
    : options_((options.validate(), std::move(options))), tree_(options_.max_bytes, options_.max_entries) {
  if (!options_.disk.dir.empty()) store_ = std::make_unique<PrefixStore>(options_.disk);
}

PrefixCache::Found PrefixCache::find(const std::string& key, std::span<const int> tokens) {
  const int limit = std::max(0, int(tokens.size()) - 1);
  stats_.lookups += 1;
  stats_.tokens += int64_t(tokens.size());
  auto held = tree_.find(key, tokens, limit);
  Found found;
  while (store_ && store_->longest(key, tokens, limit) >= held.tokens + std::max(1, options_.min_disk_tokens)) {
    auto text = store_->load(key, tokens, limit, [&](const cache::KVCaches& caches, const std::string& where) {
      if (options_.check) options_.check(key, caches, where);
    });
    if (!text) continue;  // it was damaged; perhaps there is another
    stats_.disk_hits += 1;
    held = {};
    insert(key, text->tokens, text->caches, false);
    held = tree_.find(key, tokens, limit);
    const auto same = std::mismatch(text->tokens.begin(), text->tokens.end(), tokens.begin(), tokens.end()).first;
    const int common = std::min(limit, int(same - text->tokens.begin()));
    if (held.tokens < common) {
      // More than memory may hold. Not where it lies, so that no other program can cut the file short under a step.
      cache::trim(text->caches, int(text->tokens.size()) - common);
      found = {cache::copy(text->caches), common};
    }
    break;
  }
  if (found.tokens == 0) found = {held.caches(capacity(tokens.size())), held.tokens};
  stats_.hits += found.tokens > 0;
  stats_.tokens_hit += found.tokens;
  return found;
}

int PrefixCache::longest(const std::string& key, std::span<const int> tokens) {
  return tree_.find(key, tokens, std::max(0, int(tokens.size()) - 1)).tokens;
}

bool PrefixCache::insert(const std::string& key, std::span<const int> tokens, const cache::KVCaches& caches) {
  return insert(key, tokens, caches, true);
}

bool PrefixCache::insert(const std::string& key, std::span<const int> tokens, const cache::KVCaches& caches,
                         bool to_disk) {
  int held = caches.empty() ? 0 : caches[0]->offset();
  for (const auto& cache : caches) held = std::min(held, cache->offset());
  if (tokens.empty() || held < int(tokens.size())) {
    fail<RequestError>("[prefix cache] caches: expected those of {} tokens, found {}",
                       tokens.empty() ? "some" : std::to_string(tokens.size()), held);
  }
  eval_state(caches);
  auto inserted = PrefixTree::Inserted::nothing;
  const int surplus = held - int(tokens.size());
  if (surplus == 0) {
    inserted = tree_.insert(key, tokens, caches);
  } else if (cache::trimmable(caches) >= surplus) {
    auto cut = cache::shallow_copy(caches);
    cache::trim(cut, surplus);
    inserted = tree_.insert(key, tokens, cut);
  }
  stats_.inserted += inserted == PrefixTree::Inserted::added;
  stats_.refused += inserted == PrefixTree::Inserted::nothing;
  if (store_ && to_disk && inserted == PrefixTree::Inserted::added) {
    auto prefix = tree_.find(key, tokens, int(tokens.size()));
    if (prefix.tokens == int(tokens.size())) store_->write(key, tokens, std::move(prefix));
  }
  return inserted != PrefixTree::Inserted::nothing;
}

PrefixCache::Stats PrefixCache::stats() const {
  auto stats = stats_;
  stats.evictions = tree_.evictions();
  stats.bytes = tree_.bytes();
  stats.entries = tree_.entries();
  if (store_) stats.disk = store_->stats();
  return stats;
}

void PrefixCache::flush() {
  if (store_) store_->flush();
}

}  // namespace mlx_lm
