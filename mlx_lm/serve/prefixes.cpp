#include "mlx_lm/serve/prefixes.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "mlx_lm/load/prompt_cache.h"

namespace mlx_lm::serve {
namespace {

// Tokens that are worth a copy. Most prompts have the beginning of a template in common.
constexpr int kLeast = 32;

}  // namespace

Prefixes::Prefixes(PrefixCacheOptions cache, const BatchOptions& batch, Metrics& metrics)
    : format_(fmt::format("\n{} {} {} {}", batch.max_kv_size, batch.kv_bits, batch.kv_group_size,
                          batch.quantized_kv_start)),
      metrics_(metrics) {
  if (cache.max_bytes == 0) return;
  cache.check = [this](const std::string&, const cache::KVCaches& caches, const std::string& where) {
    check_prompt_cache(caches, *reading_, where);
  };
  cache_ = std::make_unique<PrefixCache>(std::move(cache));
}

std::string Prefixes::key(const ServedModel& model) const { return model.fingerprint + format_; }

int Prefixes::longest(const ServedModel& model, std::span<const int> prompt) {
  return cache_ ? cache_->longest(key(model), prompt) : 0;
}

int Prefixes::begin(const std::shared_ptr<const ServedModel>& model,
                    const std::shared_ptr<const std::vector<int>>& prompt, const std::vector<int>& parts,
                    SequenceOptions& options) {
  if (!cache_) return 0;
  reading_ = &model->model();
  auto found = cache_->find(key(*model), *prompt);
  if (found.tokens < kLeast) found = {};
  metrics_.cached_tokens.Increment(found.tokens);
  (found.tokens > 0 ? metrics_.cache_hits : metrics_.cache_misses).Increment();
  options.prompt_cache = std::move(found.caches);
  options.cached_tokens.assign(prompt->begin(), prompt->begin() + found.tokens);
  options.return_cache = true;

  std::vector<int> places = model->cuttable ? std::vector<int>{} : parts;
  places.push_back(int(prompt->size()) - 1);
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  for (int place : places) {
    if (place > found.tokens && place < int(prompt->size())) options.snapshots.push_back(place - found.tokens);
  }
  options.on_snapshot = [this, model, prompt, start = found.tokens](int tokens, const cache::KVCaches& caches) {
    insert(*model, std::span(*prompt).first(size_t(start + tokens)), caches);
  };
  return found.tokens;
}

void Prefixes::hold(const ServedModel& model, std::span<const int> tokens, const cache::KVCaches& caches) {
  if (!cache_ || caches.empty()) return;
  int seen = int(tokens.size());  // a constraint's last token, or a stop word's, may not be in the caches
  for (const auto& cache : caches) seen = std::min(seen, cache->offset());
  if (seen > 0) insert(model, tokens.first(size_t(seen)), caches);
}

void Prefixes::insert(const ServedModel& model, std::span<const int> tokens, const cache::KVCaches& caches) {
  cache_->insert(key(model), tokens, caches);
  metrics_.cache_bytes.Set(double(cache_->bytes()));
}

}  // namespace mlx_lm::serve
