// Many prompts in, their answers out as they end.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "mlx_lm/generate/batch_generator.h"
#include "mlx_lm/text/tokenizer_wrapper.h"

namespace mlx_lm {

struct BatchAnswer {
  size_t index;             // of the prompt
  std::string text;         // without the end token's
  std::vector<int> tokens;  // with it
  int prompt_tokens;
  FinishReason finish_reason;
  cache::KVCaches caches;  // if wanted
};

struct BatchStats {
  int prompt_tokens = 0, generation_tokens = 0;
  double prompt_tps = 0, generation_tps = 0;    // tokens of all texts per second
  double prompt_time = 0, generation_time = 0;  // seconds
  double peak_memory = 0;                       // GB (10^9 bytes)
};

struct BatchGenerateOptions {
  BatchOptions batch;
  // Told each answer as it ends, in any order.
  std::function<void(const BatchAnswer&)> on_answer;
  // Told after each step: prompt tokens computed and tokens made so far.
  std::function<void(const BatchStats&)> on_step;
  std::stop_token stop;  // ends all texts that are not done: `cancelled`
};

struct BatchResult {
  std::vector<BatchAnswer> answers;  // in the order of the prompts
  BatchStats stats;
};

struct BatchPrompt {
  std::vector<int> tokens;
  SequenceOptions options;  // stop_tokens: besides the tokenizer's end tokens
};

// Errors: RequestError that names the prompt, from 1, for one that is empty or has tokens that the model does not know,
// and for options out of range. Source: mlx_lm/generate.py, batch_generate.
BatchResult batch_generate(const models::LanguageModel& model, const text::TokenizerWrapper& tokenizer,
                           std::vector<BatchPrompt> prompts, const BatchGenerateOptions& options = {});

}  // namespace mlx_lm
