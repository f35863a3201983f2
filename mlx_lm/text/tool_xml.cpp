// Calls in tags with names in quotes. Source: mlx_lm/tool_parsers/{minimax_m2,minicpm5,muse_spark,kimi_k3}.py.
#include <algorithm>
#include <map>

#include "mlx_lm/text/scan.h"
#include "mlx_lm/text/tool_formats.h"
#include "mlx_lm/text/tool_schema.h"
#include "mlx_lm/text/value_reader.h"

namespace mlx_lm::text::formats {
namespace {

std::string_view unquoted(std::string_view name) {
  name = strip(name);
  const bool quoted = name.size() > 1 && name[0] == name.back() && (name[0] == '"' || name[0] == '\'');
  return quoted ? name.substr(1, name.size() - 2) : name;
}

// What may stand in a name without quotes.
bool is_bare(std::string_view text) {
  return std::string_view("\"'<>").find(text[0]) == text.npos && space_at(text) == 0;
}

// The value of name="..." among a tag's attributes; empty if there is none.
std::string_view name_attribute(std::string_view attributes) {
  const auto block = next_block(attributes, " name=\"", "\"");
  return block ? block->text : std::string_view();
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != text.npos; at = found + from.size()) {
    out += text.substr(at, found - at);
    out += to;
  }
  text = out + text.substr(at);
}

// key="value" pairs; &quot; and &amp; in a value stand for what they mean.
std::map<std::string, std::string> attributes_of(std::string_view text) {
  std::map<std::string, std::string> found;
  size_t at = 0;
  while (const auto block = next_block(text, "=\"", "\"", at)) {
    size_t begin = block->begin;
    while (begin > at && is_word(text[begin - 1])) --begin;
    std::string value(block->text);
    replace_all(value, "&quot;", "\"");
    replace_all(value, "&amp;", "&");
    if (begin < block->begin) found.insert_or_assign(std::string(text.substr(begin, block->begin - begin)), value);
    at = block->end;
  }
  return found;
}

Value json_or(std::string_view text, std::string_view otherwise) {
  auto value = read_value(text, Dialect::json);
  return value ? *std::move(value) : Value::of_string(otherwise);
}

// A tag <|open|>kind attributes<|sep|>body<|close|>kind<|sep|> from `at` on, which moves behind it.
struct Tag {
  std::string_view attributes, body;
};
std::optional<Tag> next_tag(std::string_view text, std::string_view kind, size_t& at) {
  constexpr std::string_view kOpen = "<|open|>", kClose = "<|close|>", kSeparator = "<|sep|>";
  const auto close = std::string(kClose) + std::string(kind) + std::string(kSeparator);
  const auto head = next_block(text, std::string(kOpen) + std::string(kind), kSeparator, at);
  if (!head) return std::nullopt;
  const auto end = text.find(close, head->end);
  if (end == text.npos) return std::nullopt;
  at = end + close.size();
  return Tag{head->text, text.substr(head->end, end - head->end)};
}

ToolCall kimi_k3_call(const Tag& tag) {
  const auto attributes = attributes_of(tag.attributes);
  const auto name = attributes.find("tool");
  if (name == attributes.end()) {
    fail<ToolCallError>("[tool call] kimi_k3: expected a call with a tool, found {}", excerpt(tag.attributes));
  }
  size_t at = 0;
  if (const auto block = next_tag(tag.body, "json", at)) {
    return make_call("kimi_k3", name->second, json_or(block->body, block->body));
  }
  ObjectBuilder arguments;
  while (const auto argument = next_tag(tag.body, "argument", at)) {
    const auto about = attributes_of(argument->attributes);
    const auto key = about.find("key"), type = about.find("type");
    if (key == about.end()) {
      fail<ToolCallError>("[tool call] kimi_k3: {}: expected an argument with a key, found {}", excerpt(name->second),
                          excerpt(argument->attributes));
    }
    const bool text = type == about.end() || type->second == "string";
    arguments.set(key->second, text ? Value::of_string(argument->body) : json_or(argument->body, argument->body));
  }
  return make_call("kimi_k3", name->second, arguments.take());
}

}  // namespace

// <invoke name="f"><parameter name="a">1</parameter></invoke>
Calls minimax_m2(std::string_view text, const Tools& tools) {
  Calls calls;
  size_t at = 0;
  while (const auto invoke = next_block(text, "<invoke name=", "</invoke>", at)) {
    at = invoke->end;
    const auto name = unquoted(invoke->text.substr(0, invoke->text.find('>')));
    const ToolSchema schema(tools, name);
    ObjectBuilder arguments;
    size_t inside = 0;
    while (const auto parameter = next_block(invoke->text, "<parameter name=", "</parameter>", inside)) {
      inside = parameter->end;
      const auto end = parameter->text.find('>');
      if (end == 0 || end == parameter->text.npos) continue;
      const auto key = unquoted(parameter->text.substr(0, end));
      arguments.set(std::string(key), typed_value(strip(parameter->text.substr(end + 1)), schema.find(key)));
    }
    calls.push_back(make_call("minimax_m2", name, arguments.take()));
  }
  if (calls.empty()) {
    fail<ToolCallError>("[tool call] minimax_m2: expected <invoke name=...>...</invoke>, found {}", excerpt(text));
  }
  return calls;
}

// "f"><param name="a">1</param></function><function name="g">...: the start marker ends before the first name.
Calls minicpm5(std::string_view text, const Tools& tools) {
  Calls calls;
  constexpr std::string_view kEnd = "</function>";
  Finder bracket(text, ">"), function_end(text, kEnd);
  size_t start = 0;
  for (size_t at = 0; (at = bracket.from(at)) != text.npos;) {
    const auto head = strip_right(text.substr(start, at - start));
    ++at;
    if (head.empty()) continue;
    size_t begin = head.size();
    if (head.back() == '"' || head.back() == '\'') {
      begin = head.size() > 1 ? head.rfind(head.back(), head.size() - 2) : head.npos;
    } else {
      while (begin > 0 && is_bare(head.substr(begin - 1))) --begin;
    }
    if (begin >= head.size()) continue;
    const auto name = unquoted(head.substr(begin));
    const auto end = std::min(function_end.from(at), text.size());
    const auto body = text.substr(at, end - at);
    const ToolSchema schema(tools, name);
    ObjectBuilder arguments;
    size_t inside = 0;
    while (const auto parameter = next_block(body, "<param name=", "</param>", inside)) {
      inside = parameter->end;
      const auto close = parameter->text.find('>');
      if (close == parameter->text.npos) continue;
      const auto quoted_key = strip(parameter->text.substr(0, close)), key = unquoted(quoted_key);
      if (key.find_first_of("\"'<>") != key.npos || (key == quoted_key && key.empty())) continue;
      auto value = strip(parameter->text.substr(close + 1));
      constexpr std::string_view kOpen = "<![CDATA[", kClose = "]]>";
      if (value.starts_with(kOpen) && value.ends_with(kClose) && value.size() >= kOpen.size() + kClose.size()) {
        value = value.substr(kOpen.size(), value.size() - kOpen.size() - kClose.size());
      }
      arguments.set(std::string(key), typed_value(value, schema.find(key)));
    }
    calls.push_back(make_call("minicpm5", name, arguments.take()));
    start = at = std::min(end + kEnd.size(), text.size());
  }
  if (calls.empty()) fail<ToolCallError>("[tool call] minicpm5: expected \"name\">..., found {}", excerpt(text));
  return calls;
}

// <atem:invoke name="f"><atem:parameter name="a">1</atem:parameter></atem:invoke>
Calls muse_spark(std::string_view text, const Tools&) {
  constexpr std::string_view kParameter = "<atem:parameter", kParameterEnd = "</atem:parameter>";
  Finder call_end(text, "</atem:invoke>"), parameter(text, kParameter), parameter_end(text, kParameterEnd);
  Calls calls;
  size_t at = 0;
  while (const auto head = next_block(text, "<atem:invoke", ">", at)) {
    at = head->end;
    const auto name = name_attribute(head->text);
    if (name.empty()) continue;
    ObjectBuilder arguments;
    // A value may hold the call's end tag, so the call ends where the next tag is no parameter.
    while (true) {
      const auto begin = parameter.from(at);
      if (begin == text.npos || begin > call_end.from(at)) break;
      const auto end = parameter_end.from(begin);
      if (end == text.npos) break;
      at = end + kParameterEnd.size();
      const auto inside = text.substr(begin + kParameter.size(), end - begin - kParameter.size());
      const auto bracket = inside.find('>');
      const auto key = name_attribute(inside.substr(0, bracket));
      if (bracket == inside.npos || key.empty()) continue;
      const auto value = inside.substr(bracket + 1);
      arguments.set(std::string(key), json_or(value, strip(value)));
    }
    calls.push_back(make_call("muse_spark", name, arguments.take()));
    at = std::min(call_end.from(at), text.size());
  }
  if (calls.empty()) {
    fail<ToolCallError>("[tool call] muse_spark: expected <atem:invoke name=\"...\">, found {}", excerpt(text));
  }
  return calls;
}

// <|open|>call tool="f"<|sep|><|open|>argument key="a"
// type="number"<|sep|>1<|close|>argument<|sep|><|close|>call<|sep|>
Calls kimi_k3(std::string_view text, const Tools&) {
  Calls calls;
  std::optional<ToolCallError> wrong;  // one call of several stands in nobody's way
  size_t at = 0;
  while (const auto tag = next_tag(text, "call", at)) {
    try {
      calls.push_back(kimi_k3_call(*tag));
    } catch (const ToolCallError& error) {
      wrong = error;
    }
  }
  if (!calls.empty()) return calls;
  if (wrong) throw *wrong;
  fail<ToolCallError>("[tool call] kimi_k3: expected <|open|>call, found {}", excerpt(text));
}

}  // namespace mlx_lm::text::formats
