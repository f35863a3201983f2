// A request's answers, from tokens to what clients read: texts, reasoning, tool calls, log-probabilities, counts.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mlx_lm/serve/api_error.h"
#include "mlx_lm/serve/call_reader.h"
#include "mlx_lm/serve/engine.h"
#include "mlx_lm/serve/generation_request.h"
#include "mlx_lm/text/answer_parser.h"

namespace mlx_lm::serve {

struct TokenLogprob {
  int id;
  std::string token;  // its text, which may be part of a character
  double logprob;
};

// What became readable.
struct AnswerPiece {
  enum class Kind { text, reasoning, call, arguments };

  Kind kind;
  std::string text;     // call: the function's name; arguments: more of the newest call's
  std::string id = {};  // call: its own
  int call = -1;        // call, arguments: which of the answer's calls
};
// A token with the likeliest ones in its place.
struct ScoredToken {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;
};

// One of a request's answers, as far as it is.
struct Choice {
  std::string text, reasoning;
  std::vector<text::ToolCall> calls;
  std::vector<ScoredToken> logprobs;
  std::string finish_reason;  // stop, length, tool_calls; empty: not at its end
  std::string stop_word;      // that ended it, if one did
};

struct Usage {
  int prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
};

// Who makes an answer of the API out of it. All on the engine's thread.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  // The first choice is under way; usage has what is known of the prompt.
  virtual void begin(const Usage& /*usage*/) {}
  virtual void progress(int /*processed*/, int /*total*/) {}
  // logprobs: of the tokens since the last piece.
  virtual void piece(int /*choice*/, const AnswerPiece& /*piece*/, const std::vector<ScoredToken>& /*logprobs*/) {}
  // A choice is complete.
  virtual void end(int /*choice*/, const Choice& /*result*/) {}
  // All are.
  virtual void done(const std::vector<Choice>& choices, const Usage& usage) = 0;
  // Nothing follows.
  virtual void failed(const ApiError& error) = 0;
};

struct AnswerRequest {
  std::shared_ptr<const ServedModel> model;
  std::vector<int> prompt;
  GenerationRequest generation;
  std::optional<Grammar> grammar = {};
  Json tools = nullptr;          // for formats that look up types
  bool reads_tools = false;      // calls in the model's own format are taken out of the text
  bool reads_call_list = false;  // calls are as call_grammar() has them
  bool reads_reasoning = true;
  std::vector<int> parts = {};  // as TextJob::parts
};

// Starts on the answers, and returns the numbers by which the engine can cancel them. id: of the request, for errors
// that are ours. Errors: those of Engine::submit.
std::vector<int> start_answer(Engine& engine, AnswerRequest request, std::shared_ptr<AnswerWriter> writer,
                              const std::string& id);

}  // namespace mlx_lm::serve
