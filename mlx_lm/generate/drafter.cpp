#include "mlx_lm/generate/drafter.h"

#include <algorithm>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/steps.h"
#include "mlx_lm/ops/ops.h"

namespace mlx_lm {
namespace {

uint64_t hash_of(std::span<const int> tokens) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a, a token at a time
  for (int token : tokens) hash = (hash ^ uint32_t(token)) * 1099511628211u;
  return hash;
}

int common_prefix(std::span<const int> a, std::span<const int> b) {
  return int(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

NgramDrafter::NgramDrafter(int longest, int shortest) : longest_(longest), shortest_(shortest) {
  if (shortest < 1 || longest < shortest) {
    fail<RequestError>("[generate] n-grams: expected lengths of 1 or more, the shorter first, found {} and {}",
                       shortest, longest);
  }
  after_.resize(longest - shortest + 1);
}

std::vector<int> NgramDrafter::draft(std::span<const int> text, int n) {
  if (common_prefix(seen_, text) < int(seen_.size())) {  // another text
    seen_.clear();
    for (auto& table : after_) table.clear();
  }
  const auto last = [&](int length, int end) { return text.subspan(end - length, length); };
  for (int end = std::max(1, int(seen_.size())); end < int(text.size()); ++end) {
    for (int length = shortest_; length <= std::min(longest_, end); ++length) {
      after_[length - shortest_][hash_of(last(length, end))] = end;
    }
  }
  seen_.assign(text.begin(), text.end());

  const int end = int(text.size());
  for (int length = std::min(longest_, end); length >= shortest_; --length) {
    const auto& table = after_[length - shortest_];
    const auto found = table.find(hash_of(last(length, end)));
    if (found == table.end()) continue;
    const int begin = found->second;
    if (!std::ranges::equal(last(length, begin), last(length, end))) continue;  // another n-gram with the same hash
    const auto draft = text.subspan(begin, std::min(n, end - begin));
    return {draft.begin(), draft.end()};
  }
  return {};
}

ModelDrafter::ModelDrafter(const models::LanguageModel& draft_model, const models::LanguageModel& model,
                           int prefill_step_size)
    : model_(draft_model),
      prefill_step_size_(prefill_step_size),
      cost_(draft_model.totals().bytes_per_step() / std::max(1., double(model.totals().bytes_per_step()))) {
  if (draft_model.vocab_size() != model.vocab_size()) {
    fail<RequestError>("[generate] draft-model: expected the model's vocabulary of {} tokens, found {}",
                       model.vocab_size(), draft_model.vocab_size());
  }
  begin_again();
}

void ModelDrafter::begin_again() {
  caches_ = model_.make_cache();
  fed_.clear();
}

std::vector<int> ModelDrafter::draft(std::span<const int> text, int n) {
  if (n == 0 || text.empty()) return {};
  // At least the last token is fed, whose logits are wanted.
  const int kept = std::min(common_prefix(fed_, text), int(text.size()) - 1);
  const int surplus = int(fed_.size()) - kept;
  if (surplus > cache::trimmable(caches_)) {
    begin_again();
  } else {
    cache::trim(caches_, surplus);
    fed_.resize(kept);
  }

  mx::array token = prefill(text.subspan(fed_.size()), model_, caches_, {.prefill_step_size = prefill_step_size_});
  fed_.assign(text.begin(), text.end());
  std::vector<mx::array> tokens;
  for (int i = 0;; ++i) {
    auto logits = model_(token, caches_);  // (1, 1, V)
    token = ops::argmax(logits);
    join(caches_, {&token});
    tokens.push_back(token);
    if (i + 1 == n) break;
  }
  mx::eval(tokens);
  std::vector<int> draft;
  for (auto& t : tokens) draft.push_back(int(t.item<uint32_t>()));
  fed_.insert(fed_.end(), draft.begin(), draft.end() - 1);
  return draft;
}

}  // namespace mlx_lm
