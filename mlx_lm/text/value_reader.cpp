#include "mlx_lm/text/value_reader.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "mlx_lm/text/number.h"
#include "mlx_lm/text/scan.h"
#include "mlx_lm/text/utf8.h"

namespace mlx_lm::text {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// U+FFFD for surrogates and what lies beyond U+10FFFF.
void append_character(std::string& out, uint32_t code) {
  if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
    out += kReplacement;
  } else if (code < 0x80) {
    out += char(code);
  } else if (code < 0x800) {
    out += {char(0xC0 | code >> 6), char(0x80 | (code & 0x3F))};
  } else if (code < 0x10000) {
    out += {char(0xE0 | code >> 12), char(0x80 | (code >> 6 & 0x3F)), char(0x80 | (code & 0x3F))};
  } else {
    out += {char(0xF0 | code >> 18), char(0x80 | (code >> 12 & 0x3F)), char(0x80 | (code >> 6 & 0x3F)),
            char(0x80 | (code & 0x3F))};
  }
}

class Reader {
 public:
  Reader(std::string_view text, size_t at, Dialect dialect, bool in_brackets)
      : text_(text),
        at_(at),
        python_(dialect == Dialect::python || dialect == Dialect::python_and_json),
        json_names_(dialect != Dialect::python),
        loose_(dialect == Dialect::loose_json),
        depth_(in_brackets ? 1 : 0) {}

  size_t at() const { return at_; }

  // Python: elements with commas between them are a tuple.
  bool whole(Value& out) {
    if (!value(out)) return false;
    skip();
    if (python_ && take(',')) {
      Value tuple{Value::Kind::array, {}, {}, {}};
      tuple.items.push_back(std::move(out));
      for (skip(); !at_end() && peek() != '\n'; skip()) {
        if (!value(tuple.items.emplace_back())) return false;
        skip();
        if (!take(',')) break;
      }
      out = std::move(tuple);
    }
    depth_ = 1;  // line breaks may follow
    skip();
    return at_end();
  }

  bool value(Value& out) {
    skip();
    if (at_end()) return false;
    const char c = peek();
    if (c == '[') return sequence(out, ']');
    if (c == '(' && python_) return sequence(out, ')');
    if (c == '{') return object(out);
    if (c == '"' || (python_ && starts_python_string())) return string(out);
    if (is_digit(c) || c == '-' || c == '.' || c == '+') return number(out);
    return name(out);
  }

  void skip() {
    if (!python_) {
      while (!at_end() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) ++at_;
      return;
    }
    while (!at_end()) {
      const char c = peek();
      if (c == ' ' || c == '\t' || c == '\f' || (depth_ > 0 && (c == '\n' || c == '\r'))) {
        ++at_;
      } else if (c == '\\' && text_.substr(at_ + 1, 1) == "\n") {
        at_ += 2;
      } else if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else {
        return;
      }
    }
  }

 private:
  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return text_[at_]; }
  bool take(char c) {
    if (at_end() || peek() != c) return false;
    ++at_;
    return true;
  }

  bool sequence(Value& out, char close) {
    if (++depth_ > kMaxValueDepth) return false;
    ++at_;
    out = {Value::Kind::array, {}, {}, {}};
    bool comma = true;
    while (true) {
      skip();
      if (take(close)) break;
      if (!comma || !value(out.items.emplace_back())) return false;
      skip();
      comma = take(',');
      if (comma && !python_ && (skip(), !at_end() && peek() == close)) return false;
    }
    --depth_;
    if (close == ')' && out.items.size() == 1 && !comma) {  // brackets around one value, not a tuple
      Value only = std::move(out.items[0]);
      out = std::move(only);
    }
    return true;
  }

  bool object(Value& out) {
    if (++depth_ > kMaxValueDepth) return false;
    ++at_;
    ObjectBuilder members;
    bool comma = true;
    while (true) {
      skip();
      if (take('}')) break;
      Value key, item;
      if (!comma || !value(key) || key.is(Value::Kind::array) || key.is(Value::Kind::object)) return false;
      if (!python_ && !key.is(Value::Kind::string)) return false;
      skip();
      if (!take(':') || !value(item)) return false;
      members.set(std::move(key.text), std::move(item));
      skip();
      comma = take(',');
      if (comma && !python_ && (skip(), !at_end() && peek() == '}')) return false;
    }
    --depth_;
    out = members.take();
    return true;
  }

  bool name(Value& out) {
    size_t end = at_;
    while (end < text_.size() && is_word(text_[end])) ++end;
    const auto word = text_.substr(at_, end - at_);
    at_ = end;
    if ((python_ && word == "True") || (json_names_ && word == "true")) {
      out = Value::of_bool(true);
    } else if ((python_ && word == "False") || (json_names_ && word == "false")) {
      out = Value::of_bool(false);
    } else if ((python_ && word == "None") || (json_names_ && word == "null")) {
      out = {};
    } else {
      return false;
    }
    return true;
  }

  bool number(Value& out) {
    std::string sign;
    if (take('-')) {
      sign = "-";
    } else if (peek() == '+' && python_) {
      ++at_;
    }
    if (python_) skip();
    const auto rest = text_.substr(at_);
    if (python_ && rest.size() > 1 && rest[0] == '0' && is_word(rest[1]) && !is_digit(rest[1]) &&
        (rest[1] | 0x20) != 'e') {
      return based_number(out, sign);
    }
    auto found = scan_number(rest);
    if (!found) return false;
    at_ += found->length;
    if (python_) {
      if (!at_end() && is_word(peek())) return false;  // "1a", or the j of a complex number
      if (found->leading_zero && found->whole) return false;
    } else {
      found->json = rest.substr(0, found->length);
      if (!is_json_number(found->json)) return false;
    }
    out = Value::of_number(sign + found->json);
    return true;
  }

  // 0x1F, 0o17, 0b11, of up to 64 bits.
  bool based_number(Value& out, const std::string& sign) {
    const char letter = char(text_[at_ + 1] | 0x20);
    const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    std::string digits;
    size_t end = at_ + 2;
    for (; end < text_.size() && is_word(text_[end]); ++end) {
      if (text_[end] != '_')
        digits += text_[end];
      else if (end + 1 == text_.size() || !is_word(text_[end + 1]) || text_[end + 1] == '_')
        return false;
    }
    uint64_t value = 0;
    const char* last = digits.data() + digits.size();
    if (base == 0 || digits.empty()) return false;
    const auto [rest, error] = std::from_chars(digits.data(), last, value, base);
    if (error != std::errc() || rest != last) return false;
    at_ = end;
    out = Value::of_number(sign + std::to_string(value));
    return true;
  }

  bool starts_python_string() const {
    const auto rest = text_.substr(at_);
    const size_t quote = rest[0] == 'r' || rest[0] == 'R' || rest[0] == 'u' || rest[0] == 'U' ? 1 : 0;
    return rest.size() > quote && (rest[quote] == '"' || rest[quote] == '\'');
  }

  bool string(Value& out) {
    out = Value::of_string({});
    if (!python_) return json_string(out.text);
    do {  // texts side by side are one
      if (!python_string(out.text)) return false;
      skip();
    } while (!at_end() && starts_python_string());
    return true;
  }

  bool json_string(std::string& out) {
    ++at_;
    while (!at_end()) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (uint8_t(c) < 0x20 && !loose_) return false;
      if (c != '\\') {
        out += c;
        continue;
      }
      if (at_end()) return false;
      const char escape = text_[at_++];
      constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
      if (escape == 'u') {
        if (!utf16(out)) return false;
      } else if (const auto place = kFrom.find(escape); place != kFrom.npos) {
        out += kTo[place];
      } else {
        return false;
      }
    }
    return false;
  }

  bool hex(size_t count, uint32_t& code) {
    const auto digits = text_.substr(at_, count);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (digits.size() != count || error != std::errc() || end != digits.data() + count) return false;
    at_ += count;
    return true;
  }

  bool utf16(std::string& out) {
    uint32_t code = 0, low = 0;
    if (!hex(4, code)) return false;
    const size_t behind = at_;
    if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
      at_ += 2;
      if (hex(4, low) && low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      } else {
        at_ = behind;
      }
    }
    append_character(out, code);
    return true;
  }

  bool python_string(std::string& out) {
    const bool raw = (peek() | 0x20) == 'r';
    if (is_word(peek())) ++at_;
    const char quote = peek();
    const std::string_view triple = quote == '"' ? R"(""")" : "'''";
    const bool is_triple = text_.substr(at_, 3) == triple;
    at_ += is_triple ? 3 : 1;
    while (!at_end()) {
      const char c = text_[at_];
      if (c == quote && (!is_triple || text_.substr(at_, 3) == triple)) {
        at_ += is_triple ? 3 : 1;
        return true;
      }
      ++at_;
      if (c == '\0' || ((c == '\n' || c == '\r') && !is_triple)) return false;
      if (c != '\\') {
        out += c;
      } else if (at_end()) {
        return false;
      } else if (raw) {
        out += {c, text_[at_++]};
      } else if (!python_escape(out)) {
        return false;
      }
    }
    return false;
  }

  bool python_escape(std::string& out) {
    const char escape = text_[at_++];
    constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    uint32_t code = 0;
    if (const auto place = kFrom.find(escape); place != kFrom.npos) {
      out += kTo[place];
    } else if (escape == 'x' || escape == 'u' || escape == 'U') {
      if (!hex(escape == 'x' ? 2 : escape == 'u' ? 4 : 8, code) || code > 0x10FFFF) return false;
      append_character(out, code);
    } else if (is_octal(escape)) {
      code = uint32_t(escape - '0');
      for (int more = 0; more < 2 && !at_end() && is_octal(peek()); ++more)
        code = code * 8 + uint32_t(text_[at_++] - '0');
      append_character(out, code);
    } else if (escape == 'N') {
      return false;  // a character by its Unicode name
    } else if (escape != '\n') {
      out += {'\\', escape};  // Python keeps what it does not know
    }
    return true;
  }

  std::string_view text_;
  size_t at_;
  bool python_, json_names_, loose_;
  int depth_;
};

}  // namespace

std::optional<Value> read_value(std::string_view text, Dialect dialect) {
  const bool python = dialect == Dialect::python || dialect == Dialect::python_and_json;
  if (python) {
    const auto first = text.find_first_not_of(" \t\n\r\f");
    text.remove_prefix(std::min(first, text.size()));
  }
  Reader reader(text, 0, dialect, false);
  Value value;
  if (!reader.whole(value)) return std::nullopt;
  return value;
}

std::optional<Value> read_value_at(std::string_view text, size_t& at, Dialect dialect) {
  Reader reader(text, at, dialect, true);
  Value value;
  if (!reader.value(value)) return std::nullopt;
  at = reader.at();
  return value;
}

Value read_or_text(std::string_view text) {
  if (auto value = read_value(text, Dialect::json)) return *std::move(value);
  if (auto value = read_value(text, Dialect::python)) return *std::move(value);
  return Value::of_string(text);
}

void skip_python_space(std::string_view text, size_t& at) {
  Reader reader(text, at, Dialect::python, true);
  reader.skip();
  at = reader.at();
}

}  // namespace mlx_lm::text
