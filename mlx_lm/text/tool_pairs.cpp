// name, then pairs of <arg_key> and <arg_value>. Source: mlx_lm/tool_parsers/{glm47,longcat}.py.
#include <algorithm>
#include <vector>

#include "mlx_lm/text/scan.h"
#include "mlx_lm/text/tool_formats.h"
#include "mlx_lm/text/tool_schema.h"
#include "mlx_lm/text/value_reader.h"

namespace mlx_lm::text::formats {
namespace {

using Kind = Value::Kind;

struct Tags {
  std::string_view key, key_end, value, value_end;
};
constexpr Tags kGlm{"<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"};
constexpr Tags kLongcat{"<longcat_arg_key>", "</longcat_arg_key>", "<longcat_arg_value>", "</longcat_arg_value>"};

// A declared text stays one, whatever it looks like.
Value argument(std::string_view text, std::string_view key, const ToolSchema& schema) {
  return schema.type(key) == "string" ? Value::of_string(text) : read_or_text(text);
}

// White space, also such that a model wrote as a backslash and an n.
size_t skip_gap(std::string_view text, size_t at) {
  while (true) {
    const auto rest = text.substr(at);
    const auto n = rest.starts_with("\\n") ? 2 : space_at(rest);
    if (n == 0) return at;
    at += n;
  }
}

// A key reaches to the first end tag that a value follows.
Value pairs(std::string_view text, const Tags& tags, const ToolSchema& schema) {
  ObjectBuilder arguments;
  Finder key_end(text, tags.key_end), value_end(text, tags.value_end);
  for (size_t begin = 0, at = 0; (begin = text.find(tags.key, at)) != text.npos;) {
    begin += tags.key.size();
    at = begin;
    size_t end = 0, value = 0;
    do {
      end = key_end.from(at);
      if (end == text.npos) return arguments.take();
      at = end + tags.key_end.size();
      value = skip_gap(text, at);
    } while (!text.substr(value).starts_with(tags.value));
    value += tags.value.size();
    const auto close = value_end.from(value);
    if (close == text.npos) break;
    const auto key = strip(text.substr(begin, end - begin));
    arguments.set(std::string(key), argument(strip(text.substr(value, close - value)), key, schema));
    at = close + tags.value_end.size();
  }
  return arguments.take();
}

// Arguments that came as JSON: texts are read once more, unless the schema declares them texts.
Value normalized(Value arguments, const ToolSchema& schema) {
  for (size_t i = 0; i < arguments.items.size(); ++i) {
    auto& value = arguments.items[i];
    if (schema.type(arguments.keys[i]) == "string") {
      if (!value.is(Kind::string)) value = Value::of_string(to_json(value));
    } else if (value.is(Kind::string)) {
      value = read_or_text(value.text);
    }
  }
  return arguments;
}

bool is_empty(const Value& v) {
  return v.is(Kind::null) || (v.text.empty() && v.items.empty()) || v.text == "false" || v.text == "0";
}

// {"name", "arguments"}, {"function", "arguments"}, {"tool": {"name", "arguments"}}, or a list that starts with one.
std::optional<ToolCall> json_call(std::string_view text, const Tools& tools) {
  auto parsed = read_value(strip(text), Dialect::json);
  if (!parsed) return std::nullopt;
  const Value* call = parsed->is(Kind::array) && !parsed->items.empty() ? &parsed->items[0] : &*parsed;
  const auto *name = call->find("name"), *arguments = call->find("arguments");
  if (!name || !arguments) name = call->find("function");
  if (!name || !arguments) {
    const auto* tool = call->find("tool");
    if (!tool || !tool->is(Kind::object)) return std::nullopt;
    name = tool->find("name");
    arguments = tool->find("arguments");
  }
  if (name && name->is(Kind::object)) {
    if (!arguments || is_empty(*arguments)) arguments = name->find("arguments");
    name = name->find("name");
  }
  if (!name || !name->is(Kind::string)) return std::nullopt;
  Value object{Kind::object, {}, {}, {}};
  if (arguments && !arguments->is(Kind::null)) {
    object = arguments->is(Kind::string) ? read_or_text(arguments->text) : *arguments;
  }
  if (!object.is(Kind::object)) return std::nullopt;
  return make_call("glm47", name->text, normalized(std::move(object), ToolSchema(tools, name->text)));
}

// Words as a shell splits them; nullopt for a quote that does not end. Source: Python's shlex.split.
std::optional<std::vector<std::string>> shell_words(std::string_view text) {
  std::vector<std::string> words;
  bool in_word = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c == '\\') {
      if (++at == text.size()) return std::nullopt;
      words.back() += text[at];
    } else if (c == '"' || c == '\'') {
      for (++at; at < text.size() && text[at] != c; ++at) {
        const auto next = text.substr(at + 1, 1);
        if (c == '"' && text[at] == '\\' && (next == "\"" || next == "\\")) ++at;
        words.back() += text[at];
      }
      if (at == text.size()) return std::nullopt;
    } else {
      words.back() += c;
    }
  }
  return words;
}

std::optional<Value> assignments(std::string_view text, const ToolSchema& schema) {
  const auto words = shell_words(text);
  if (!words || words->empty()) return std::nullopt;
  ObjectBuilder arguments;
  for (const auto& word : *words) {
    const auto equals = word.find('=');
    if (equals == word.npos) return std::nullopt;
    const auto key = strip(std::string_view(word).substr(0, equals));
    if (key.empty()) return std::nullopt;
    arguments.set(std::string(key), argument(std::string_view(word).substr(equals + 1), key, schema));
  }
  return arguments.take();
}

// "name", "name {json}", "name a=1 b='x y'", or a name and anything else.
ToolCall plain_call(std::string_view text, const Tools& tools) {
  text = strip(text);
  for (const char separator : {'\n', ' '}) {
    const auto end = text.find(separator);
    const auto name = strip(text.substr(0, end));
    const auto rest = end == text.npos ? std::string_view() : strip(text.substr(end));
    if (rest.empty()) continue;
    if (auto object = read_or_text(rest); object.is(Kind::object)) {
      return make_call("glm47", name, normalized(std::move(object), ToolSchema(tools, name)));
    }
  }
  const auto end = std::min(text.find(' '), text.size());
  const auto name = text.substr(0, end), rest = strip(text.substr(end));
  ObjectBuilder arguments;
  if (!rest.empty()) {
    if (const auto pairs = assignments(rest, ToolSchema(tools, name))) return make_call("glm47", name, *pairs);
    arguments.set("raw", Value::of_string(rest));
  }
  return make_call("glm47", name, arguments.take());
}

}  // namespace

Calls glm47(std::string_view text, const Tools& tools) {
  const auto first = text.find(kGlm.key);
  if (first != text.npos) {
    const auto name = strip(text.substr(0, first));
    return {make_call("glm47", name, pairs(text, kGlm, ToolSchema(tools, name)))};
  }
  if (strip(text).empty()) fail<ToolCallError>("[tool call] glm47: expected a call, found nothing");
  if (auto call = json_call(text, tools)) return {*std::move(call)};
  return {plain_call(text, tools)};
}

Calls longcat(std::string_view text, const Tools& tools) {
  text = strip(text);
  if (text.starts_with('{')) {
    if (const auto value = read_value(text, Dialect::json)) return calls_of_json("longcat", *value);
  }
  const auto first = text.find(kLongcat.key);
  const auto name = strip(text.substr(0, first));
  // A function without arguments is a word of its own.
  const bool word = std::all_of(name.begin(), name.end(), [](char c) { return is_word(c) || c == '.' || c == '-'; });
  if (first == text.npos && !word) {
    fail<ToolCallError>("[tool call] longcat: expected name{}, found {}", kLongcat.key, excerpt(text));
  }
  return {make_call("longcat", name, pairs(text, kLongcat, ToolSchema(tools, name)))};
}

}  // namespace mlx_lm::text::formats
