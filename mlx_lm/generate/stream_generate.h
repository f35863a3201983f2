// Prompt in, text out as it comes.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <variant>
#include <vector>

#include "mlx_lm/generate/finish_reason.h"
#include "mlx_lm/generate/generate_step.h"
#include "mlx_lm/text/tokenizer_wrapper.h"

namespace mlx_lm {

// One piece of the answer and the figures so far. Names are mlx-lm's.
struct GenerationResponse {
  std::string text;    // what became readable; often empty
  int token;           // the newest token
  mx::array logprobs;  // (V), of every token that could have come; lazy
  bool from_draft;     // guessed (or known) before it was computed
  int prompt_tokens;
  double prompt_tps;      // prompt tokens per second, until the first token was there
  int generation_tokens;  // so far
  double generation_tps;  // tokens per second since the first
  double peak_memory;     // GB (10^9 bytes) at most so far: MLX's on a GPU, the process's on the CPU
  std::optional<FinishReason> finish_reason;  // of the last response only
};

using Prompt = std::variant<std::string, std::vector<int>>;

// Streams the model's continuation. A text is encoded first, with special tokens unless it starts with the tokenizer's
// own first token. The last response carries the finish reason and the rest of the text; the end token's own text is
// never part of it. Model and tokenizer must outlive the range.
// Errors: RequestError for an empty prompt, one that is not UTF-8, or options out of range (max_tokens 0 included).
Generator<GenerationResponse> stream_generate(const models::LanguageModel& model,
                                              const text::TokenizerWrapper& tokenizer, Prompt prompt,
                                              StepOptions options = {});

// The whole answer at once. verbose: where to write the text as it comes, between rules, and the figures after it.
std::string generate(const models::LanguageModel& model, const text::TokenizerWrapper& tokenizer, Prompt prompt,
                     StepOptions options = {}, std::ostream* verbose = nullptr);

}  // namespace mlx_lm
