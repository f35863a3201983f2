#include "mlx_lm/text/answer_parser.h"

#include "mlx_lm/text/tokenizer_wrapper.h"

namespace mlx_lm::text {
namespace {

enum State : int { kText, kReasoning, kTool, kStates };

// Source: mlx-lm's make_text_state_machine; there a stop word is only left out, here it ends the answer.
std::shared_ptr<const TextStateMachine> machine(const TokenizerWrapper& tokenizer,
                                                const std::vector<std::string>& stop_words) {
  std::vector<std::vector<TextStateMachine::Edge>> edges(kStates);
  if (const auto& thinking = tokenizer.thinking()) {
    edges[kText].push_back({thinking->start, kReasoning});
    edges[kReasoning].push_back({thinking->end, kText});
  }
  if (const auto& tool = tokenizer.tool_calling()) {
    edges[kText].push_back({tool->start, kTool});
    if (tokenizer.has_thinking()) edges[kReasoning].push_back({tool->start, kTool});
    edges[kTool].push_back({tool->end, kText});
  }
  for (const auto& marker : tokenizer.structural_markers()) edges[kText].push_back({marker, kText});
  for (auto& state : edges) {
    for (const auto& word : stop_words) state.push_back({word, TextStateMachine::kEnd});
  }
  return std::make_shared<const TextStateMachine>(edges);
}

}  // namespace

AnswerParser::AnswerParser(const TokenizerWrapper& tokenizer, nlohmann::json tools,
                           const std::vector<std::string>& stop_words, bool in_thinking)
    : stream_(machine(tokenizer, stop_words), in_thinking ? kReasoning : kText),
      format_(tokenizer.tool_format()),
      tools_(std::move(tools)) {}

std::vector<AnswerPart> AnswerParser::add(std::string_view piece) {
  std::vector<AnswerPart> parts;
  for (auto& segment : stream_.add(piece)) take(std::move(segment), parts);
  return parts;
}

std::vector<AnswerPart> AnswerParser::finish(Ending ending) {
  std::vector<AnswerPart> parts;
  if (ending == Ending::complete) {
    take(stream_.flush(), parts);
  } else {
    stream_.discard();
  }
  if (block_ && !block_->empty()) end_block(parts);
  return parts;
}

void AnswerParser::take(TextSegment segment, std::vector<AnswerPart>& parts) {
  if (segment.state == kTool) {
    if (!block_) block_.emplace();
    *block_ += segment.text;
    return;
  }
  if (segment.state == TextStateMachine::kEnd) return;
  if (block_) end_block(parts);
  if (segment.text.empty()) return;
  const auto kind = segment.state == kReasoning ? AnswerPart::Kind::reasoning : AnswerPart::Kind::text;
  if (!parts.empty() && parts.back().kind == kind) {
    parts.back().text += segment.text;
  } else {
    parts.push_back({kind, std::move(segment.text), {}, {}});
  }
}

void AnswerParser::end_block(std::vector<AnswerPart>& parts) {
  auto block = *std::exchange(block_, std::nullopt);
  try {
    for (auto& call : format_->parse(block, tools_)) {
      has_tool_calls_ = true;
      parts.push_back({AnswerPart::Kind::tool_call, {}, std::move(call), {}});
    }
  } catch (const ToolCallError& error) {
    parts.push_back({AnswerPart::Kind::malformed_call, std::move(block), {}, error.what()});
  }
}

}  // namespace mlx_lm::text
