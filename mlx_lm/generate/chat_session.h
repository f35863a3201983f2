// A conversation with a model, in which no turn is computed twice.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/stream_generate.h"
#include "mlx_lm/text/answer_parser.h"

namespace mlx_lm {

// The user's message and the model's answer.
struct ChatTurn {
  std::string message;
  std::string answer;
  std::string reasoning;  // before the answer; templates leave it out of later prompts, or are told it by name
  std::vector<text::ToolCall> calls;

  bool operator==(const ChatTurn& other) const;
};

// What came of an answer.
struct ChatPiece {
  std::vector<text::AnswerPart> parts;  // that became readable; often none
  GenerationResponse response;          // prompt_tokens: those computed in this turn
};

// The conversation and a new message leave no room for an answer.
class ContextFull : public RequestError {
 public:
  using RequestError::RequestError;
};

// The messages, and one set of KV caches, which outlives the turns: the tokens of the next prompt are compared with
// those that the caches hold, the caches forget what comes after the first difference, and only the rest is computed.
// Whatever happened in between (a turn taken back, another system message, a conversation from a file), that is right.
// Caches that cannot forget enough start anew. Threads: one call at a time, each on the thread that made the first.
class ChatSession {
 public:
  struct Options {
    std::optional<std::string> system;  // message before the first; absent: what the chat template says by itself
    int context_size = 0;               // tokens of a prompt and its answer; 0: no limit. See context_size() below
    nlohmann::json template_variables = nlohmann::json::object();
  };
  // Model and tokenizer must outlive it. Errors: RequestError for a model without a chat template.
  ChatSession(const models::LanguageModel& model, const text::TokenizerWrapper& tokenizer, Options options);

  // Adds a message and streams the answer, which ends at the context's end at the latest. A turn whose answer was
  // stopped stays, with the answer so far; without one token it does not. o.prompt_cache is set here. The session must
  // outlive the range, and not be used before that is destroyed.
  // Errors: ContextFull when less than room() would be left, and those of templates and stream_generate(); the
  // conversation is then as it was.
  Generator<ChatPiece> say(std::string message, StepOptions o);
  // Answers the last message anew; without one token the old answer stays. Errors: RequestError when there is no turn.
  Generator<ChatPiece> retry(StepOptions o);

  // Takes the last turn back. False: there is none.
  bool undo();
  // Starts a new conversation. The system message stays.
  void reset();
  // Drops as few of the oldest turns as the message needs; returns how many. Errors: ContextFull when it needs more
  // than there is, and nothing is dropped.
  int make_room(const std::string& message, int max_tokens);

  const std::vector<ChatTurn>& turns() const { return turns_; }
  void set_turns(std::vector<ChatTurn> turns) { turns_ = std::move(turns); }
  const std::optional<std::string>& system() const { return system_; }
  void set_system(std::optional<std::string> system) { system_ = std::move(system); }

  int context_size() const { return context_size_; }
  // Tokens that an answer has at least: max_tokens, but no more than an eighth of the context.
  int room(int max_tokens) const;
  // Tokens that the caches hold, and how many of them the last turn found there.
  int held_tokens() const { return int(held_.size()); }
  int reused_tokens() const { return reused_; }
  // The last answer ended because the context did.
  bool is_full() const { return context_size_ > 0 && held_tokens() >= context_size_; }

 private:
  class Answering;

  Generator<ChatPiece> answer(std::string message, std::optional<ChatTurn> old, StepOptions o);
  // The prompt of the turns from `first` on, and a message.
  std::vector<int> encode(const std::string& message, size_t first = 0) const;
  bool fits(size_t prompt_tokens, int max_tokens) const;
  [[noreturn]] void fail_full(size_t prompt_tokens) const;
  void reuse(const std::vector<int>& prompt);
  void restart();

  const models::LanguageModel& model_;
  const text::TokenizerWrapper& tokenizer_;
  std::optional<std::string> system_;
  int context_size_;
  nlohmann::json template_variables_;
  std::vector<ChatTurn> turns_;
  cache::KVCaches caches_;
  std::vector<int> held_;  // the tokens in the caches
  int reused_ = 0;
};

// Tokens that a model was made for, by its config.json: max_position_embeddings, or what yarn stretches them to; 0:
// it does not say. Errors: ConfigError.
int context_size(const ConfigReader& config);

// As messages of a chat template: [{"role", "content", ...}].
nlohmann::json to_messages(const std::vector<ChatTurn>& turns);

}  // namespace mlx_lm
