// Formats whose calls are JSON with little around it. Source: mlx_lm/tool_parsers/{json_tools,kimi_k2,mistral}.py.
#include "mlx_lm/text/scan.h"
#include "mlx_lm/text/tool_formats.h"
#include "mlx_lm/text/tool_schema.h"
#include "mlx_lm/text/value_reader.h"

namespace mlx_lm::text::formats {
namespace {

constexpr std::string_view kBegin = "<|tool_call_begin|>", kEnd = "<|tool_call_end|>";
constexpr std::string_view kArguments = "<|tool_call_argument_begin|>";

bool is_name(char c) { return is_word(c) || c == '-'; }

// functions.multiply:0<|tool_call_argument_begin|>{"a": 2}
ToolCall kimi_call(std::string_view text) {
  text = strip(text);
  if (text.starts_with(kBegin)) text.remove_prefix(kBegin.size());  // of a call that was cut off before its end marker
  const auto mark = text.find(kArguments);
  const auto id = strip(text.substr(0, mark));
  const auto number = id.find_last_not_of("0123456789");
  if (mark == text.npos || number == id.npos || number + 1 == id.size() || id[number] != ':' || number == 0) {
    fail<ToolCallError>("[tool call] kimi_k2: expected functions.name:number{}, found {}", kArguments, excerpt(text));
  }
  auto name = id.substr(0, number);
  constexpr std::string_view kPrefix = "functions.";
  if (name.starts_with(kPrefix) && name.size() > kPrefix.size()) name.remove_prefix(kPrefix.size());
  return make_call("kimi_k2", name, read_or_text(strip(text.substr(mark + kArguments.size()))), std::string(id));
}

}  // namespace

Calls json_tools(std::string_view text, const Tools&) {
  const auto value = read_value(strip(text), Dialect::json);
  if (!value) fail<ToolCallError>("[tool call] json_tools: expected JSON, found {}", excerpt(text));
  return calls_of_json("json_tools", *value);
}

Calls kimi_k2(std::string_view text, const Tools&) {
  Calls calls;
  size_t at = 0;
  while (const auto block = next_block(text, kBegin, kEnd, at)) {
    calls.push_back(kimi_call(block->text));
    at = block->end;
  }
  if (calls.empty()) calls.push_back(kimi_call(text));
  return calls;
}

// A list of calls in JSON, or name[ARGS]{...}, repeated. The format has no end marker.
Calls mistral(std::string_view text, const Tools&) {
  if (const auto list = read_value(text, Dialect::json); list && list->is(Value::Kind::array)) {
    return calls_of_json("mistral", *list, /* bare */ true);
  }
  constexpr std::string_view kMark = "[ARGS]";
  Calls calls;
  size_t at = 0;
  for (size_t mark; (mark = text.find(kMark, at)) != text.npos;) {
    auto name = strip(text.substr(at, mark - at));
    size_t begin = name.size();
    while (begin > 0 && is_name(name[begin - 1])) --begin;
    name.remove_prefix(begin);
    at = mark + kMark.size();
    if (name.empty()) continue;
    while (const auto n = space_at(text.substr(at))) at += n;
    const auto arguments = read_value_at(text, at, Dialect::json);
    if (!arguments) {
      fail<ToolCallError>("[tool call] mistral: {}: expected JSON, found {}", excerpt(name), excerpt(text.substr(at)));
    }
    calls.push_back(make_call("mistral", name, *arguments));
  }
  if (calls.empty()) fail<ToolCallError>("[tool call] mistral: expected name[ARGS]{{...}}, found {}", excerpt(text));
  return calls;
}

}  // namespace mlx_lm::text::formats
