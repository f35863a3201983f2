// [name(key=value, ...), ...], as Python would call. Source: mlx_lm/tool_parsers/pythonic.py.
#include <algorithm>
#include <set>

#include "mlx_lm/text/scan.h"
#include "mlx_lm/text/tool_formats.h"
#include "mlx_lm/text/tool_schema.h"
#include "mlx_lm/text/value_reader.h"

namespace mlx_lm::text::formats {
namespace {

// A list of calls by Python's rules, between [ and ].
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  bool list(Calls& calls) {
    while (true) {
      skip();
      if (at_ == text_.size()) return !calls.empty();
      if (!call(calls)) return false;
      skip();
      if (!take(',') && at_ < text_.size()) return false;
    }
  }

 private:
  void skip() { skip_python_space(text_, at_); }
  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool word(std::string& out) {
    skip();
    const size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    out = text_.substr(begin, at_ - begin);
    return !out.empty() && !is_digit(out[0]);
  }

  bool call(Calls& calls) {
    std::string name, key;
    if (!word(name)) return false;
    while (take('.')) {
      if (!word(key)) return false;
      name += '.';
      name += key;
    }
    if (!take('(')) return false;
    ObjectBuilder arguments;
    std::set<std::string> seen;
    while (!take(')')) {
      if (!word(key) || !seen.insert(key).second || !take('=')) return false;
      auto value = read_value_at(text_, at_, Dialect::python_and_json);
      if (!value) return false;
      arguments.set(key, *std::move(value));
      if (!take(',') && !(at_ < text_.size() && text_[at_] == ')')) return false;
    }
    calls.push_back(make_call("pythonic", name, arguments.take()));
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

bool ends_argument(std::string_view rest) { return rest.empty() || rest[0] == ','; }

// key="text" or key='text' or key=anything up to a comma, wherever they are found.
Value loose_arguments(std::string_view text) {
  ObjectBuilder arguments;
  Finder single_quote(text, "'"), double_quote(text, "\"");
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    while (at < text.size() && is_word(text[at])) ++at;
    const auto key = text.substr(begin, at - begin);
    if (key.empty() || at == text.size() || text[at] != '=') {
      at += key.empty() ? 1 : 0;
      continue;
    }
    ++at;
    if (ends_argument(text.substr(at))) continue;
    std::string_view value;
    if (text[at] == '"' || text[at] == '\'') {
      const size_t end = (text[at] == '"' ? double_quote : single_quote).from(at + 1);
      if (end != text.npos && ends_argument(text.substr(end + 1))) {
        value = text.substr(at + 1, end - at - 1);
        at = end + 1;
      }
    }
    if (value.data() == nullptr) {
      const size_t end = std::min(text.find(',', at), text.size());
      value = strip(text.substr(at, end - at));
      at = end;
    }
    auto literal = read_value(value, Dialect::python);
    arguments.set(std::string(key), literal ? *std::move(literal) : Value::of_string(value));
    at += at < text.size() ? 1 : 0;  // the comma
  }
  return arguments.take();
}

}  // namespace

Calls pythonic(std::string_view text, const Tools&) {
  const auto open = text.find('['), close = text.rfind(']');
  if (open != text.npos && close != text.npos && open < close) {
    Calls calls;
    if (Reader(text.substr(open + 1, close - open - 1)).list(calls)) return calls;
  }
  // What is no Python: the first [name(...)], its arguments found one by one.
  Finder end(text, ")]");
  for (size_t at = 0; (at = text.find('[', at)) != text.npos;) {
    const size_t name = ++at;
    while (at < text.size() && (is_word(text[at]) || text[at] == '.')) ++at;
    if (at == name || at == text.size() || text[at] != '(') continue;
    const size_t last = end.from(at + 1);
    if (last == text.npos) break;
    return {make_call("pythonic", text.substr(name, at - name), loose_arguments(text.substr(at + 1, last - at - 1)))};
  }
  fail<ToolCallError>("[tool call] pythonic: expected [name(key=value, ...)], found {}", excerpt(text));
}

}  // namespace mlx_lm::text::formats
