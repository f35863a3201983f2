// Chooses a text's tokens one after the other, where logits of several places may be known at once.
#pragma once

#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/generate/drafter.h"
#include "mlx_lm/sample/constraint.h"
#include "mlx_lm/sample/logits_processors.h"
#include "mlx_lm/sample/sampler.h"

namespace mlx_lm {
namespace mx = mlx::core;

// By constraint, processors and sampler, in this order. A constrained text ends within its limit if it can: when its
// tokens run out, those of a way to the end come instead of what the sampler would have. Threads: one at a time.
class TokenChooser {
 public:
  // All must outlive it. constraint: null for none. max_tokens: of the text; -1: no limit.
  TokenChooser(sample::Constraint* constraint, const std::vector<sample::LogitsProcessor>& processors,
               const sample::Sampler& sampler, int max_tokens)
      : constraint_(constraint), processors_(processors), sampler_(sampler), max_tokens_(max_tokens) {}

  // Tokens that come next without being chosen, and after them drafted ones.
  struct Guesses {
    std::vector<int> tokens;
    int fixed = 0;
  };
  // At most so many in all, and so many drafts. text: as it is after the call too. drafter: null for none.
  Guesses guess(std::vector<int>& text, Drafter* drafter, int drafts, int most);
  // One of them comes. Returns it.
  int take(int token);

  // The token after the text. logits: (1, V) there, replaced by those that it was chosen by. left: tokens that may
  // follow it. Eval: forces them.
  int choose(const std::vector<int>& text, mx::array& logits, int left);

 private:
  std::vector<int> fixed(int most);
  bool can_end(int left);

  sample::Constraint* constraint_;
  const std::vector<sample::LogitsProcessor>& processors_;
  const sample::Sampler& sampler_;
  int max_tokens_;
  std::vector<int> way_;  // to the end, once it has to be gone
  int length_ = 0;        // of the way that was found last
  int unsearched_ = 0;
};

}  // namespace mlx_lm
