// Token ids in, token ids out: prefill, then one step after another.
#pragma once

#include <functional>
#include <stop_token>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/base/generator.h"
#include "mlx_lm/generate/drafter.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/sample/logits_processors.h"
#include "mlx_lm/sample/sampler.h"

namespace mlx_lm {
namespace mx = mlx::core;
namespace sample {
class Constraint;
}

struct StepOptions {
  int max_tokens = 256;                                    // tokens to make; 0: only fill the cache; -1: no end
  sample::Sampler sampler;                                 // empty: the likeliest token
  std::vector<sample::LogitsProcessor> logits_processors;  // change the logits first, one after another
  int max_kv_size = 0;                                     // tokens that each layer may keep; 0: all
  int kv_bits = 0;                          // of quantized keys and values: 2, 3, 4, 5, 6 or 8; 0: floating-point
  int kv_group_size = 64;                   // numbers that share a scale: 32, 64 or 128
  int quantized_kv_start = 0;               // tokens from which on they are quantized
  int prefill_step_size = 2048;             // prompt tokens computed at a time
  cache::KVCaches* prompt_cache = nullptr;  // what came before the prompt, continued in place; null: nothing
  // Told (0, n) at the start, after each chunk, and (n, n) when the whole prompt is computed (so the first token is
  // there). n: tokens of the prompt.
  std::function<void(int processed, int total)> prompt_progress_callback;
  Drafter* drafter = nullptr;                // guesses tokens, which are checked several at a time; null: nobody
  int num_draft_tokens = 8;                  // guessed at a time at most; as many as seem worth it
  sample::Constraint* constraint = nullptr;  // what the text has to be, at its beginning; null: anything
  std::stop_token stop;                      // ends the generation before the next chunk or token

  // Errors: RequestError that names the option.
  void validate() const;
};

struct Step {
  int token;
  mx::array logprobs;       // (V), of every token that could have come; lazy
  bool from_draft = false;  // guessed (or known) before it was computed
};

// Continues the prompt token by token. Computes one step ahead: when a token is handed out, the next is under way, so
// at the end the cache holds every token that was handed out. With a drafter or a constraint it is
// speculative_generate_step() instead.
// The model must outlive the range. Errors: RequestError for an empty prompt or options out of range.
// Source: mlx_lm/generate.py, generate_step.
Generator<Step> generate_step(std::vector<int> prompt, const models::LanguageModel& model, StepOptions options);

// What the loops begin with: checks prompt and options, and makes the caches of a text that has none.
cache::KVCaches own_caches(const std::vector<int>& prompt, const models::LanguageModel& model,
                           const StepOptions& options);

}  // namespace mlx_lm
