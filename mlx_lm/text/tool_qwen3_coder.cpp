// <function=name><parameter=key>value</parameter></function>, typed by the tools' schemas.
// Source: mlx_lm/tool_parsers/qwen3_coder.py; here a block may hold several functions.
#include <algorithm>
#include <cmath>

#include "mlx_lm/text/number.h"
#include "mlx_lm/text/scan.h"
#include "mlx_lm/text/tool_formats.h"
#include "mlx_lm/text/tool_schema.h"
#include "mlx_lm/text/value_reader.h"

namespace mlx_lm::text::formats {
namespace {

constexpr std::string_view kFunction = "<function=", kFunctionEnd = "</function>";
constexpr std::string_view kParameter = "<parameter=", kParameterEnd = "</parameter>";

// A name and a > at the start of text, which loses both.
std::string_view take_name(std::string_view& text) {
  text = strip_left(text);
  size_t end = 0;
  while (end < text.size() && text[end] != '<' && text[end] != '>' && space_at(text.substr(end)) == 0) ++end;
  const auto name = text.substr(0, end);
  text.remove_prefix(end);
  if (text.starts_with('>')) text.remove_prefix(1);
  return name;
}

bool any_of(std::string_view type, std::initializer_list<std::string_view> types) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

bool starts_with_any(std::string_view type, std::initializer_list<std::string_view> starts) {
  return std::any_of(starts.begin(), starts.end(), [&](auto start) { return type.starts_with(start); });
}

Value number_of(std::string_view text, std::string_view key, bool whole) {
  // A whole number keeps its digits; mlx-lm rounds it to a double.
  if (auto digits = read_int(text)) return Value::of_number(*std::move(digits));
  const auto number = read_float(text);
  if (!number || (whole && *number != std::trunc(*number))) {
    fail<ToolCallError>("[tool call] qwen3_coder: {}: expected {}, found {}", excerpt(key),
                        whole ? "a whole number" : "a number", excerpt(text));
  }
  return Value::of_number(number_json(*number));
}

Value typed(std::string_view text, std::string_view key, const ToolSchema& schema) {
  if (lower(text) == "null") return {};
  const auto* argument = schema.find(key);
  if (!argument || !argument->is_object() || argument->empty()) return Value::of_string(text);
  if (!argument->contains("type")) {
    auto value = read_value(text, Dialect::json);
    const bool composed = value && (value->is(Value::Kind::array) || value->is(Value::Kind::object));
    return composed ? *std::move(value) : Value::of_string(text);
  }
  const auto type = lower(strip(schema.type(key)));
  if (any_of(type, {"string", "str", "text", "varchar", "char", "enum"})) return Value::of_string(text);
  if (starts_with_any(type, {"int", "uint", "long", "short", "unsigned"})) return number_of(text, key, true);
  if (starts_with_any(type, {"num", "float"})) return number_of(text, key, false);
  if (any_of(type, {"boolean", "bool", "binary"})) return Value::of_bool(lower(text) == "true");
  if (any_of(type, {"object", "array", "arr"}) || starts_with_any(type, {"dict", "list"})) {
    if (auto value = read_value(text, Dialect::loose_json)) return *std::move(value);
  }
  if (auto value = read_value(text, Dialect::python)) return *std::move(value);
  return Value::of_string(text);
}

}  // namespace

Calls qwen3_coder(std::string_view text, const Tools& tools) {
  Finder function_end(text, kFunctionEnd), parameter(text, kParameter), parameter_end(text, kParameterEnd);
  Calls calls;
  size_t at = text.find(kFunction);
  while (at != text.npos) {
    auto rest = text.substr(at + kFunction.size());
    const auto name = take_name(rest);
    const ToolSchema schema(tools, name);
    ObjectBuilder arguments;
    at = text.size() - rest.size();
    // A value may hold </function> itself, so the function ends where the next tag is no parameter.
    while (true) {
      const auto begin = parameter.from(at);
      if (begin == text.npos || begin > function_end.from(at)) break;
      const auto end = parameter_end.from(begin);
      if (end == text.npos) break;
      auto value = text.substr(begin + kParameter.size(), end - begin - kParameter.size());
      at = end + kParameterEnd.size();
      const auto key = take_name(value);
      if (key.empty()) continue;
      if (value.starts_with('\n')) value.remove_prefix(1);
      if (value.ends_with('\n')) value.remove_suffix(1);
      arguments.set(std::string(key), typed(value, key, schema));
    }
    const auto end = function_end.from(at);
    if (end == text.npos) {
      fail<ToolCallError>("[tool call] qwen3_coder: {}: expected {}, found {}", excerpt(name), kFunctionEnd,
                          excerpt(strip(text.substr(at))));
    }
    calls.push_back(make_call("qwen3_coder", name, arguments.take()));
    at = text.find(kFunction, end);
  }
  if (calls.empty()) {
    fail<ToolCallError>("[tool call] qwen3_coder: expected {}name>, found {}", kFunction, excerpt(text));
  }
  return calls;
}

}  // namespace mlx_lm::text::formats
