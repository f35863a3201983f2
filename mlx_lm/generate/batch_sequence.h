// The inside of a BatchGenerator: a text, and a step of several.
#pragma once

#include <optional>
#include <vector>

#include "mlx_lm/generate/batch_generator.h"
#include "mlx_lm/generate/speculative.h"
#include "mlx_lm/generate/token_chooser.h"

namespace mlx_lm {

// Rows [i, i + n) of x.
inline mx::array rows(const mx::array& x, int i, int n = 1) {
  mx::Shape start(x.ndim(), 0), stop = x.shape();
  start[0] = i;
  stop[0] = i + n;
  return mx::slice(x, start, stop);
}

struct BatchGenerator::Sequence {
  int uid;
  std::vector<int> prompt;
  SequenceOptions options;
  cache::KVCaches caches;
  int processed = 0;  // tokens of the prompt that are in the caches
  int started = 0;    // tokens that were asked for: the newest may be under way
  int made = 0;       // tokens handed out
  int newest = -1;    // of these
  bool ended = false;
  std::exception_ptr error = nullptr;     // what it ends by, once the tokens before are handed out
  std::optional<mx::array> history = {};  // all tokens so far, if there are processors
  size_t snapshots = 0;                   // that were taken
  // With a constraint or a drafter: all tokens so far, and who chooses and how much is guessed.
  std::vector<int> text = {};
  std::optional<TokenChooser> chooser = {};
  std::optional<DraftLength> draft_length = {};

  // Each step depends on the tokens before, and may check several.
  bool careful() const { return chooser.has_value(); }
  void be_careful() {
    text = options.cached_tokens;
    text.insert(text.end(), prompt.begin(), prompt.end());
    chooser.emplace(options.constraint.get(), options.logits_processors, options.sampler, options.max_tokens);
    if (options.drafter) draft_length.emplace(options.num_draft_tokens, kTokenCost + options.drafter->cost());
  }
  // Nothing but the logits has a say.
  bool greedy() const { return !options.sampler && options.logits_processors.empty() && !options.constraint; }
  // Whether a step after those that were started makes a token or is wanted in the caches.
  bool goes_on() const {
    if (ended || error) return false;
    return options.max_tokens < 0 || started < options.max_tokens + (options.return_cache ? 1 : 0);
  }

  // Tokens of the prompt until the next snapshot, or its end.
  int stretch() const {
    const auto& all = options.snapshots;
    return (snapshots < all.size() ? all[snapshots] : int(prompt.size())) - processed;
  }
  // Chooses the token of a text that is not careful. logits: (1, V), replaced by those that it was chosen by. input:
  // (1), the token before.
  void choose(const mx::array& input, mx::array& logits, mx::array& token);
  // What a careful text's step goes on with after its newest token.
  TokenChooser::Guesses guess(bool drafting);
  // The tokens of a careful text's step, as far as its guesses were right. i: its place in the step; at: its first row.
  void check(const Step& step, size_t i, int at, std::vector<Response>& responses);
  // Counts a token that comes out. logits: (1, V) that it was chosen by. may_end: no other of the step follows.
  Response finish(int token, const mx::array& logits, bool may_end = true);

  // What it throws becomes this text's error.
  template <class F>
  void guard(F f) {
    try {
      f();
    } catch (...) {
      error = std::current_exception();
    }
  }
  bool wants_snapshot(int tokens) const {
    return !error && snapshots < options.snapshots.size() && options.snapshots[snapshots] == tokens;
  }
  void snapshot(int tokens) {
    if (!wants_snapshot(tokens)) return;
    snapshots += 1;
    guard([&] { options.on_snapshot(tokens, caches); });
  }
  // Lets go of what is its own, while a step still knows it.
  void end() {
    ended = true;
    caches.clear();
    chooser.reset();
    options = {};
    history.reset();
  }
};

// A token of each text, under way.
struct BatchGenerator::Step {
  Sequences sequences;
  bool careful;                                // one of them is
  std::vector<TokenChooser::Guesses> guesses;  // what each goes on with after its first token
  mx::array tokens;                            // (N), the likeliest or chosen ones, where check() chooses no others
  std::vector<mx::array> logits;               // by which each was chosen: one array (N, V), or one (n, V) for each
  std::vector<mx::array> caches;

  // MLX frees the memory of a dropped array at once, though its thread is yet to write it: what a step writes is held
  // until it is done, also the caches of a text that was removed. Its failure is nobody's.
  ~Step() { settle(); }
  void settle() {
    try {
      tokens.wait();
    } catch (...) {
    }
    caches.clear();
  }
};

}  // namespace mlx_lm
