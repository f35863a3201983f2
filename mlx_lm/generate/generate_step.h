// Token ids in, token ids out: prefill, then one step after another.
#pragma once

#include <functional>
#include <stop_token>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/base/generator.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/sample/sampler.h"

namespace mlx_lm {
namespace mx = mlx::core;

struct StepOptions {
  int max_tokens = 256;     // tokens to make; 0: only fill the cache; -1: no end
  sample::Sampler sampler;  // empty: the likeliest token
  int max_kv_size = 0;      // tokens that each layer may keep; 0: all
  // Bits of quantized keys and values: 2, 3, 4, 5, 6 or 8; 0: they stay floating-point.
  int kv_bits = 0;
  int kv_group_size = 64;                   // numbers that share a scale: 32, 64 or 128
  int quantized_kv_start = 0;               // tokens of a text from which on its caches are quantized
  int prefill_step_size = 2048;             // prompt tokens computed at a time
  cache::KVCaches* prompt_cache = nullptr;  // what came before the prompt, continued in place; null: nothing
  // Told (0, n) at the start, after each chunk, and (n, n) when the whole prompt is computed (so the first token is
  // there). n: tokens of the prompt.
  std::function<void(int processed, int total)> prompt_progress_callback;
  std::stop_token stop;  // ends the generation before the next chunk or token

  // Errors: RequestError that names the option.
  void validate() const;
};

struct Step {
  int token;
  mx::array logprobs;  // (V), of every token that could have come; lazy
};

// Continues the prompt token by token. Computes one step ahead: when a token is handed out, the next is under way, so
// at the end the cache holds every token that was handed out.
// The model must outlive the range. Errors: RequestError for an empty prompt or options out of range.
// Source: mlx_lm/generate.py, generate_step.
Generator<Step> generate_step(std::vector<int> prompt, const models::LanguageModel& model, StepOptions options);

}  // namespace mlx_lm
