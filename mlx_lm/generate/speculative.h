// The loop that checks several tokens in one step: guessed by a drafter, or forced by a grammar.
#pragma once

#include "mlx_lm/generate/generate_step.h"

namespace mlx_lm {

// Like generate_step(), for options with a drafter, a constraint or both.
//
// A step computes the logits after the newest token and after each draft. At each place a token is chosen as ever (by
// constraint, processors, sampler); as long as it is the draft there, the next place counts too. So every token is a
// draw from the model's own distribution, whatever the drafter proposes and whatever the sampler filters; greedy text
// and text with a seed are those of generate_step(), but for the last bits of logits that are computed together.
//
// The caches hold every token that was handed out but the newest.
// Source: mlx_lm/generate.py, speculative_generate_step; Leviathan et al. 2023, whose rule this is for drafts that are
// certain of themselves.
Generator<Step> speculative_generate_step(std::vector<int> prompt, const models::LanguageModel& model,
                                          StepOptions options);

// What one more token costs in a step, as a part of a step of one: 0.31 to 0.43 on two cores without VNNI, where
// products of more than a few rows are bound by arithmetic; less on larger machines.
inline constexpr double kTokenCost = 0.35;

// How many tokens to draft: as many as are likely enough to be worth computing.
// Threads: one at a time.
class DraftLength {
 public:
  // most: 1 or more. cost: of a drafted token, as a part of a step.
  DraftLength(int most, double cost) : most_(most), cost_(cost) {}
  // For the next step.
  int next();
  // Of so many drafted tokens the first `accepted` were right.
  void learn(int drafted, int accepted);

 private:
  int most_;
  double cost_;
  double acceptance_ = 0.8;  // of a token whose predecessors were right; of the last few dozen
  int rests_ = 0;            // steps without a draft, since none seemed worth it
};

}  // namespace mlx_lm
