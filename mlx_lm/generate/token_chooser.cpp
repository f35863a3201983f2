#include "mlx_lm/generate/token_chooser.h"

#include <algorithm>
#include <utility>

#include "mlx_lm/ops/ops.h"

namespace mlx_lm {

std::vector<int> TokenChooser::fixed(int most) {
  auto tokens = !way_.empty() ? way_ : constraint_ ? constraint_->forced() : std::vector<int>{};
  if (int(tokens.size()) > most) tokens.resize(size_t(most));
  return tokens;
}

TokenChooser::Guesses TokenChooser::guess(std::vector<int>& text, Drafter* drafter, int drafts, int most) {
  auto tokens = fixed(most);
  const int known = int(tokens.size());
  if (drafter) {
    text.insert(text.end(), tokens.begin(), tokens.end());
    const auto drafted = drafter->draft(text, std::max(0, std::min(drafts, most - known)));
    text.resize(text.size() - size_t(known));
    tokens.insert(tokens.end(), drafted.begin(), drafted.end());
    if (constraint_) tokens.resize(size_t(std::max(constraint_->validate(tokens), known)));
  }
  return {std::move(tokens), known};
}

int TokenChooser::take(int token) {
  constraint_->commit(token);
  if (!way_.empty()) way_.erase(way_.begin());
  return token;
}

int TokenChooser::choose(const std::vector<int>& text, mx::array& logits, int left) {
  if (constraint_) logits = constraint_->apply(logits);
  if (!processors_.empty()) {
    const mx::array history(text.data(), {int(text.size())}, mx::int32);
    for (const auto& processor : processors_) logits = processor(history, logits);
  }
  auto chosen = sampler_ ? sampler_(logits) : ops::argmax(logits);
  const int token = int(chosen.item<uint32_t>());
  if (!constraint_) return token;
  constraint_->commit(token);
  if (can_end(left)) return token;
  // Better another token than a text that is cut.
  constraint_->rollback(1);
  if (auto way = constraint_->ending(left + 1); way && !way->empty()) {
    way_ = std::move(*way);
    return take(way_.front());
  }
  constraint_->commit(token);
  return token;
}

// Whether a constrained text can still be ended within `left` tokens. Looked for when the last way to the end was
// near as long as what is left, else now and then, for it takes as long as the masks of the way's tokens.
bool TokenChooser::can_end(int left) {
  if (max_tokens_ < 0 || constraint_->is_done()) return true;
  if (left > 2 * length_ + 32 && ++unsearched_ % 16 != 0) return true;
  const auto way = constraint_->ending(left);
  if (way) length_ = int(way->size());
  return way.has_value();
}

}  // namespace mlx_lm
