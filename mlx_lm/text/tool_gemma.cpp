// call:name{key:value,...}, with texts between markers of their own. Source: mlx_lm/tool_parsers/{gemma4,
// function_gemma}.py; here function_gemma's values may be nested, too, as its chat template writes them.
#include <algorithm>

#include "mlx_lm/text/scan.h"
#include "mlx_lm/text/tool_formats.h"
#include "mlx_lm/text/tool_schema.h"
#include "mlx_lm/text/value_reader.h"

namespace mlx_lm::text::formats {
namespace {

struct Gemma {
  std::string_view name;
  std::string_view quote;  // before and after a text
  bool bare_texts;         // a value that is no JSON is a text
};
constexpr Gemma kGemma4{"gemma4", "<|\"|>", false}, kFunctionGemma{"function_gemma", "<escape>", true};

bool is_name(char c) { return is_word(c) || c == '-'; }

// Reads one {...}. After false, cut() tells whether more text could have completed it.
class Reader {
 public:
  Reader(std::string_view text, size_t at, const Gemma& gemma) : text_(text), at_(at), gemma_(gemma) {}

  size_t at() const { return at_; }
  bool cut() const { return at_ >= text_.size(); }

  bool object(Value& out) {
    if (++depth_ > kMaxValueDepth) return false;
    ++at_;
    ObjectBuilder members;
    for (skip(); !take('}'); skip()) {
      std::string key;
      Value value;
      if (!read_key(key) || !read(value, '}')) return false;
      members.set(std::move(key), std::move(value));
      skip();
      if (!take(',') && !(at_ < text_.size() && text_[at_] == '}')) return false;
    }
    --depth_;
    out = members.take();
    return true;
  }

 private:
  void skip() {
    while (const auto n = space_at(text_.substr(at_))) at_ += n;
  }
  bool take(char c) {
    if (cut() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool to_end() {
    at_ = text_.size();
    return false;
  }

  bool read_key(std::string& key) {
    Value quoted;
    if (text_.substr(at_).starts_with(gemma_.quote)) {
      if (!quoted_text(quoted)) return false;
    } else if (!cut() && text_[at_] == '"') {
      auto json = read_value_at(text_, at_, Dialect::json);
      if (!json) return false;
      quoted = *std::move(json);
    } else {
      const auto end = text_.find_first_of(":,{}[]\"<", at_);
      if (end == text_.npos) return to_end();
      quoted.text = strip(text_.substr(at_, end - at_));
      at_ = end;
      if (quoted.text.empty()) return false;
    }
    key = std::move(quoted.text);
    skip();
    return take(':');
  }

  bool quoted_text(Value& out) {
    at_ += gemma_.quote.size();
    const auto end = text_.find(gemma_.quote, at_);
    if (end == text_.npos) return to_end();
    out = Value::of_string(text_.substr(at_, end - at_));
    at_ = end + gemma_.quote.size();
    return true;
  }

  bool array(Value& out) {
    if (++depth_ > kMaxValueDepth) return false;
    ++at_;
    out = {Value::Kind::array, {}, {}, {}};
    for (skip(); !take(']'); skip()) {
      if (!read(out.items.emplace_back(), ']')) return false;
      skip();
      if (!take(',') && !(at_ < text_.size() && text_[at_] == ']')) return false;
    }
    --depth_;
    return true;
  }

  // close: of what the value stands in.
  bool read(Value& out, char close) {
    skip();
    const auto rest = text_.substr(at_);
    if (rest.starts_with(gemma_.quote)) return quoted_text(out);
    if (rest.starts_with('{')) return object(out);
    if (rest.starts_with('[')) return array(out);
    if (rest.starts_with('"')) {
      size_t behind = at_;
      if (auto json = read_value_at(text_, behind, Dialect::json)) {
        const auto next = strip_left(text_.substr(behind));
        if (next.empty() || next[0] == ',' || next[0] == close || !gemma_.bare_texts) {
          out = *std::move(json);
          at_ = behind;
          return true;
        }
      }
    }
    const char ends[] = {',', close};
    const auto end = text_.find_first_of(std::string_view(ends, 2), at_);
    if (end == text_.npos) return to_end();
    const auto word = strip(text_.substr(at_, end - at_));
    auto value = read_value(word, Dialect::json);
    if (!value && !gemma_.bare_texts) return false;
    out = value ? *std::move(value) : Value::of_string(word);
    at_ = end;
    return true;
  }

  std::string_view text_;
  size_t at_;
  const Gemma& gemma_;
  int depth_ = 0;
};

Calls calls_of(std::string_view text, const Gemma& gemma) {
  constexpr std::string_view kCall = "call:";
  Calls calls;
  size_t at = 0;
  for (size_t found; (found = text.find(kCall, at)) != text.npos;) {
    size_t brace = found + kCall.size();
    while (brace < text.size() && is_name(text[brace])) ++brace;
    const auto name = text.substr(found + kCall.size(), brace - found - kCall.size());
    at = found + kCall.size();
    if (name.empty() || brace == text.size() || text[brace] != '{') continue;
    Reader reader(text, brace, gemma);
    Value arguments;
    if (!reader.object(arguments)) {
      if (reader.cut() && !calls.empty()) break;  // the calls before the one that was cut off stand
      fail<ToolCallError>("[tool call] {}: {}: expected {}, found {}", gemma.name, excerpt(name),
                          reader.cut() ? "more arguments and }" : "key:value",
                          excerpt(text.substr(std::min(reader.at(), text.size()))));
    }
    calls.push_back(make_call(gemma.name, name, arguments));
    at = reader.at();
  }
  if (calls.empty()) {
    fail<ToolCallError>("[tool call] {}: expected call:name{{...}}, found {}", gemma.name, excerpt(text));
  }
  return calls;
}

}  // namespace

Calls gemma4(std::string_view text, const Tools&) { return calls_of(text, kGemma4); }

// Each block holds one call.
Calls function_gemma(std::string_view text, const Tools&) {
  auto calls = calls_of(text, kFunctionGemma);
  calls.resize(1);
  return calls;
}

}  // namespace mlx_lm::text::formats
