// From logits to a token.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <mlx/mlx.h>

namespace mlx_lm::sample {
namespace mx = mlx::core;

// Chooses one token in each row. A sampler with a temperature has a random sequence of its own, which its copies share:
// every call takes numbers from it, for one row after another, when the step is built. Shapes: logits (B, V), which
// need not be normalized, -> (B) uint32. Eval: lazy. Threads: one call at a time.
using Sampler = std::function<mx::array(const mx::array& logits)>;

// Names, defaults and meaning are mlx-lm's. The filters act in this order, on probabilities before the temperature:
// top_p, min_p, xtc, top_k.
struct SamplerOptions {
  float temp = 0;              // 0: always the likeliest token, and every other option is ignored
  float top_p = 0;             // keep the likeliest tokens that together reach this probability; off unless 0 < p < 1
  float min_p = 0;             // drop tokens below this share of the likeliest one's probability; [0, 1], 0: off
  int min_tokens_to_keep = 1;  // that min_p may not drop
  int top_k = 0;               // keep the k likeliest; 0: off
  float xtc_probability = 0;   // of dropping, at a step, all likely tokens but the least likely of them; [0, 1]
  float xtc_threshold = 0.1f;  // the probability from which a token is likely; [0, 0.5]
  std::vector<int> xtc_special_tokens = {};  // that xtc may not drop
  std::optional<uint64_t> seed = {};         // the same seed makes the same choices; none: different every time

  // Errors: RequestError that names the option.
  void validate() const;
};

// Errors: RequestError for options out of range.
Sampler make_sampler(const SamplerOptions& options);

// The filters by themselves: what they drop becomes -infinity. A NaN counts as -infinity. Shapes: (..., V) -> the same.
// Eval: lazy. Errors: RequestError for an option out of range.
mx::array apply_top_p(const mx::array& logits, float top_p);
mx::array apply_min_p(const mx::array& logits, float min_p, int min_tokens_to_keep = 1);
mx::array apply_top_k(const mx::array& logits, int top_k);
// As if chance had decided for it.
mx::array apply_xtc(const mx::array& logits, float threshold, const std::vector<int>& special_tokens = {});

}  // namespace mlx_lm::sample
