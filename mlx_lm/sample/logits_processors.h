// What changes logits before a token is chosen: a bias by token, and penalties for tokens that were there already.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <vector>

#include <mlx/mlx.h>

namespace mlx_lm::sample {
namespace mx = mlx::core;

// Shapes: tokens (n) int32, all that came before, the prompt included; logits (1, V) -> the same. Ids that the
// vocabulary lacks are passed over. Eval: lazy; processors one after another with the same `tokens` make one step.
using LogitsProcessor = std::function<mx::array(const mx::array& tokens, const mx::array& logits)>;

// Names, defaults and meaning are mlx-lm's. A context size is how many of the last tokens count; 0: all.
struct PenaltyOptions {
  std::map<int, float> logit_bias = {};  // added to the logit of a token; -infinity: never that token
  float repetition_penalty = 0;          // divides positive logits of tokens in the context, multiplies negative ones;
  int repetition_context_size = 20;      //   0 and 1: off
  float presence_penalty = 0;            // taken from the logit of a token in the context; 0: off
  int presence_context_size = 20;
  float frequency_penalty = 0;  // taken as often as the token is in the context; 0: off
  int frequency_context_size = 20;

  // vocab_size: of the model, where it is known. Errors: RequestError that names the option; logit_bias with an id that
  // the vocabulary lacks too.
  void validate(int vocab_size = std::numeric_limits<int>::max()) const;
};

// Those that the options ask for, in mlx-lm's order: bias, repetition, presence, frequency. Errors: RequestError for
// options out of range.
std::vector<LogitsProcessor> make_logits_processors(const PenaltyOptions& options);

// Each by itself. Errors: as above.
LogitsProcessor make_logit_bias(const std::map<int, float>& logit_bias);
LogitsProcessor make_repetition_penalty(float penalty, int context_size = 20);
LogitsProcessor make_presence_penalty(float penalty, int context_size = 20);
LogitsProcessor make_frequency_penalty(float penalty, int context_size = 20);

}  // namespace mlx_lm::sample
