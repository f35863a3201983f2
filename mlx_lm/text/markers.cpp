#include "mlx_lm/text/markers.h"

namespace mlx_lm::text {
namespace {

bool has_all(const Tokenizer& tokenizer, std::initializer_list<const char*> tokens) {
  for (const char* token : tokens) {
    if (!tokenizer.token_to_id(token)) return false;
  }
  return true;
}

}  // namespace

Markers Markers::of(const Tokenizer& tokenizer, std::string start, std::string end) {
  auto start_ids = tokenizer.encode(start, /* special */ false), end_ids = tokenizer.encode(end, /* special */ false);
  return {std::move(start), std::move(end), std::move(start_ids), std::move(end_ids)};
}

std::optional<Markers> find_thinking(const Tokenizer& tokenizer) {
  constexpr const char* kTokens[][2] = {
      {"<think>", "</think>"}, {"<longcat_think>", "</longcat_think>"}, {"<|think:start|>", "<|think:end|>"}};
  for (const auto& [start, end] : kTokens) {
    const auto start_id = tokenizer.token_to_id(start), end_id = tokenizer.token_to_id(end);
    if (start_id && end_id) return Markers{start, end, {*start_id}, {*end_id}};
  }
  if (has_all(tokenizer, {"<|channel>", "<channel|>"}))
    return Markers::of(tokenizer, "<|channel>thought", "<channel|>");
  if (has_xtml(tokenizer)) return Markers::of(tokenizer, "<|open|>think<|sep|>", "<|close|>think<|sep|>");
  return std::nullopt;
}

bool has_xtml(const Tokenizer& tokenizer) {
  return has_all(tokenizer, {"<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"});
}

}  // namespace mlx_lm::text
