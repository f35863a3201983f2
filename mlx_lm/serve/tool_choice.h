// Which tools an answer may or must call, and the grammar that makes sure of it.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "mlx_lm/hub/grammar.h"
#include "mlx_lm/serve/fields.h"

namespace mlx_lm::serve {

struct ToolChoice {
  enum class Mode {
    none,       // the answer is text
    automatic,  // text, or calls
    required,   // calls
  };
  Mode mode = Mode::none;
  Json tools = nullptr;  // that may be called, as read_tools() gives them
  bool parallel = true;  // several calls in an answer
};

// tool_choice (none, auto, required, or a function by name) and parallel_tool_calls. Errors: ApiError.
ToolChoice read_tool_choice(const Fields& fields, const Json& tools);
// Makes it a call of that function. False: there is none.
bool require_tool(ToolChoice& choice, const std::string& name);

// Where we say how calls are written, they are a list: [{"name": ..., "arguments": {...}}, ...]. This grammar allows
// only lists whose arguments fulfil the schemas; with Mode::automatic also any text that does not start as one.
GrammarOptions call_grammar(const ToolChoice& choice);

// What tells a model so whose own template knows no tools.
std::string call_instructions(const ToolChoice& choice);

}  // namespace mlx_lm::serve
