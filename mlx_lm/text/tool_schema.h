// What a request's tools say about a function's arguments.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "mlx_lm/text/tool_parsers.h"
#include "mlx_lm/text/value.h"

namespace mlx_lm::text {

// The schemas of a function's arguments by name. It looks into `tools`, which must outlive it.
class ToolSchema {
 public:
  ToolSchema(const nlohmann::json& tools, std::string_view function);

  // The argument's schema; null if nothing is known about it.
  const nlohmann::json* find(std::string_view argument) const;
  // Its "type", where that is a text.
  std::string_view type(std::string_view argument) const;

 private:
  const nlohmann::json* properties_ = nullptr;
};

// A text as a value of one of the types that the schema (null: unknown, a string) allows.
// Source: mlx_lm/tool_parsers/minimax_m2.py.
Value typed_value(std::string_view text, const nlohmann::json* schema);

// Errors: ToolCallError for arguments that are no object.
ToolCall make_call(std::string_view format, std::string_view name, const Value& arguments, std::string id = {});

// From an object {"name": text, "arguments": object, "id"?: text}, or a list of them. Arguments may be the text of an
// object. bare: they may be missing. Errors: ToolCallError.
std::vector<ToolCall> calls_of_json(std::string_view format, const Value& value, bool bare = false);

}  // namespace mlx_lm::text
