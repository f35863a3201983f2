// A model's answer, taken apart while it comes: text, reasoning, tool calls.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/text/state_machine.h"
#include "mlx_lm/text/tool_parsers.h"

namespace mlx_lm::text {

class TokenizerWrapper;

struct AnswerPart {
  // malformed_call: a block of calls that cannot be read. mlx-lm drops it.
  enum class Kind { text, reasoning, tool_call, malformed_call };

  Kind kind;
  std::string text;  // what the model wrote, markers left out; of a tool call nothing, of a malformed one its block
  ToolCall call;     // of a tool call
  std::string why;   // of a malformed one
};

// For one answer:
//
//   AnswerParser answer(tokenizer, tools, stop_words, tokenizer.ends_in_thinking(prompt));
//   for (auto& piece : generation) {
//     for (auto& part : answer.add(piece.text)) send(part);
//     if (answer.stopped()) break;
//   }
//   for (auto& part : answer.finish(AnswerParser::Ending::complete)) send(part);
//
// Texts and reasoning come as early as their markers and stop words allow, calls when their block is complete.
class AnswerParser {
 public:
  enum class Ending {
    complete,  // an end token, a length: text held back is part of the answer
    stopped,   // the tokens of a stop word, whose text did not come: what is held back is its beginning, and goes
  };

  // tools: as the request gives them, or null (ToolFormat::parse); its depth is the caller's to bound, since copies of
  // JSON recurse. stop_words: end the answer wherever they stand; empty ones never do. in_thinking: the prompt ends
  // within a block of reasoning. Errors: RequestError for stop words of more than TextStateMachine::kMaxBytes.
  AnswerParser(const TokenizerWrapper& tokenizer, nlohmann::json tools, const std::vector<std::string>& stop_words,
               bool in_thinking);

  // Text and reasoning are never empty. After a stop word nothing comes but what finish() has.
  std::vector<AnswerPart> add(std::string_view piece);
  // Once, at the end. A block of calls that has no end marker yet is read as it is.
  std::vector<AnswerPart> finish(Ending ending);

  // A stop word was found; it and what follows it are no part of the answer.
  bool stopped() const { return stream_.state() == TextStateMachine::kEnd; }
  // At least one tool call has come: the reason of the end is "tool_calls".
  bool has_tool_calls() const { return has_tool_calls_; }

 private:
  void take(TextSegment segment, std::vector<AnswerPart>& parts);
  void end_block(std::vector<AnswerPart>& parts);

  TextStream stream_;
  const ToolFormat* format_;
  nlohmann::json tools_;
  std::optional<std::string> block_;  // of tool calls, so far
  bool has_tool_calls_ = false;
};

}  // namespace mlx_lm::text
