// Keeps generated tokens inside a grammar.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/hub/grammar.h"

namespace mlx_lm::sample {
namespace mx = mlx::core;

// A grammar in a generation loop. The mask of the next token is computed on a thread of its own while the model runs:
//
//   while (!constraint.is_done()) {
//     if (auto tokens = constraint.forced(); !tokens.empty()) feed them to the model at once, commit() each;
//     constraint.prepare();
//     logits = model(...);                       // meanwhile the mask is computed
//     token = sampler(constraint.apply(logits));
//     constraint.commit(token);
//   }
//
// The thread starts with the first prepare() and ends with the constraint. A copy goes its own way with a thread of its
// own. Threads: one at a time.
// Errors: those of GrammarMatcher, from whatever is called next.
class Constraint {
 public:
  explicit Constraint(GrammarMatcher matcher);
  Constraint(const Constraint& other);
  Constraint& operator=(const Constraint& other);
  Constraint(Constraint&&) noexcept;
  Constraint& operator=(Constraint&&) noexcept;
  ~Constraint();

  // Starts on the next mask; nothing if it is there or under way.
  void prepare();
  // Minus infinity for the tokens that may not come next. End tokens are left exactly where the grammar may end. Waits
  // for prepare()'s mask, or computes it.
  // Shapes: logits (1, V) -> (1, V), V as the grammar's vocabulary. Eval: lazy.
  // Errors: RequestError for another V, and after the end.
  mx::array apply(const mx::array& logits);

  // Errors: RequestError for a token that the grammar does not allow here; nothing has changed then.
  void commit(int token);
  // The tokens that must come next (not committed).
  std::vector<int> forced();
  // How many of these drafted tokens the grammar allows, one after the other.
  int validate(std::span<const int> drafts);
  // Takes the last n tokens back.
  void rollback(int n);

  // The text may end here.
  bool accepts();
  // Only an end token may follow, or one came: there is nothing left to ask the model.
  bool is_done();
  // Tokens that lead to the end if `limit` are enough, so that a loop about to run out of tokens can close the text
  // instead of cutting it. See GrammarMatcher::ending().
  std::optional<std::vector<int>> ending(int limit);

 private:
  class Worker;
  std::unique_ptr<Worker> worker_;
};

}  // namespace mlx_lm::sample
