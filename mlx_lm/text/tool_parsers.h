// Tool calls in a model's answer, by the format that the model was trained on.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"

namespace mlx_lm::text {

struct ToolCall {
  std::string id;         // as the model gave it; empty: it gave none
  std::string name;       // of the function
  std::string arguments;  // an object, as JSON text: its keys in the model's order, its numbers as the model wrote them
};

// A call that the model did not finish, or wrote in a way that its format does not know.
class ToolCallError : public Error {
 public:
  using Error::Error;
};

// How a kind of models writes its calls. Source: mlx_lm/tool_parsers.
struct ToolFormat {
  std::string_view name;        // tool_parser_type of tokenizer_config.json
  std::string_view start, end;  // markers around a block of calls; no end: up to the end of the answer

  // The calls of one block, without its markers; at least one. tools: as the request gives them,
  // [{"type": "function", "function": {"name", "parameters": JSON schema}}, ...], or null; formats that write values
  // bare look up their types there, and what makes no sense in them counts as absent. Errors: ToolCallError. Time:
  // linear in the text.
  std::vector<ToolCall> (*parse)(std::string_view text, const nlohmann::json& tools);
};

std::span<const ToolFormat> tool_formats();
// By name; null if there is none of it.
const ToolFormat* find_tool_format(std::string_view name);
// The format that a chat template shows to its model; null if it shows none.
const ToolFormat* tool_format_of_template(std::string_view chat_template);

}  // namespace mlx_lm::text
