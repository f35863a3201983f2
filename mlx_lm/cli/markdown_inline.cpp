#include "mlx_lm/cli/markdown_inline.h"

#include <algorithm>

namespace mlx_lm::cli {
namespace {

using Text = std::u32string_view;

constexpr size_t kMore = 0;  // as a length: that is not decided yet

bool is_space(char32_t c) { return c == 0 || c == ' ' || c == '\t' || c == 0xA0 || c == 0x3000; }
bool is_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~') ||
         (c >= 0x2010 && c <= 0x205E) || (c >= 0x3001 && c <= 0x3011) || (c >= 0xFF01 && c <= 0xFF0F);
}
bool is_word(char32_t c) { return !is_space(c) && !is_punctuation(c); }

size_t run_at(Text s, size_t at) {
  size_t end = at;
  while (end < s.size() && s[end] == s[at]) ++end;
  return end - at;
}

// Where a run of exactly so many backticks begins; npos if nowhere.
size_t find_backticks(Text s, size_t from, size_t count) {
  for (size_t at = s.find('`', from); at != s.npos; at = s.find('`', at)) {
    const size_t run = run_at(s, at);
    if (run == count) return at;
    at += run;
  }
  return s.npos;
}

// CommonMark's left- and right-flanking runs, `_` not within words.
bool can_open(char32_t sign, char32_t before, char32_t after) {
  if (is_space(after) || (is_punctuation(after) && is_word(before))) return false;
  return sign != '_' || !is_word(before);
}
bool can_close(char32_t sign, char32_t before, char32_t after) {
  if (is_space(before) || (is_punctuation(before) && is_word(after))) return false;
  return sign != '_' || !is_word(after);
}

struct Line {
  Text text;
  char32_t before;
  bool final;
  unsigned style;
  Layout& out;

  char32_t at(size_t i) const { return i < text.size() ? text[i] : 0; }
  // Without a closing sign: wait for it, or write what opens as it is.
  size_t unclosed(size_t length) const {
    if (!final && text.size() < kMaxHeld) return kMore;
    out.put(text.substr(0, length), style);
    return length;
  }
  void write(Text inner, char32_t in_front, unsigned more) const {
    write_inline(inner, in_front, /* final */ true, style | more, out);
  }

  size_t escape() const {
    if (text.size() == 1 && !final) return kMore;
    constexpr Text kEscapable = U"*_`#~|>!";
    const bool escapes = text.size() > 1 && kEscapable.find(text[1]) != kEscapable.npos;
    out.put(text[escapes ? 1 : 0], style);
    return escapes ? 2 : 1;
  }

  size_t code() const {
    const size_t run = run_at(text, 0);
    const size_t close = find_backticks(text, run, run);
    // The closing run may still grow.
    if (close == text.npos || (close + run == text.size() && !final)) return unclosed(run);
    auto inner = text.substr(run, close - run);
    const bool padded = inner.size() > 2 && inner.front() == ' ' && inner.back() == ' ';
    if (padded) inner = inner.substr(1, inner.size() - 2);
    out.put(inner, style | kCode);
    return close + run;
  }

  // Where the run of so many signs begins that closes the one at the start; npos if nowhere.
  size_t find_close(char32_t sign, size_t count) const {
    size_t inner = 0;  // signs that were opened within
    for (size_t i = count; i < text.size();) {
      if (text[i] == '\\') {
        i += 2;
      } else if (text[i] == '`') {
        const size_t run = run_at(text, i), close = find_backticks(text, i + run, run);
        if (close == text.npos && !final && text.size() < kMaxHeld) return text.npos;  // it may still come
        i = close == text.npos ? i + run : close + run;
      } else if (text[i] != sign) {
        ++i;
      } else {
        const size_t run = run_at(text, i);
        if (i + run == text.size() && !final) return text.npos;
        const char32_t previous = text[i - 1], next = at(i + run);
        if (can_close(sign, previous, next)) {
          if (run == count && inner == 0) return i;
          if (run == inner + count) return i + inner;
          if (run == inner) inner = 0;
        } else if (inner == 0 && run != count && can_open(sign, previous, next)) {
          inner = run;
        }
        i += run;
      }
    }
    return text.npos;
  }

  size_t emphasis() const {
    const char32_t sign = text[0];
    const size_t run = run_at(text, 0);
    if (run == text.size() && !final) return run < kMaxHeld ? kMore : unclosed(run);
    const bool known = sign == '~' ? run == 2 : run <= 3;
    if (!known || !can_open(sign, before, at(run))) {
      out.put(text.substr(0, run), style);
      return run;
    }
    const size_t close = find_close(sign, run);
    if (close == text.npos) return unclosed(run);
    const unsigned more = sign == '~' ? kStrike : (run & 1 ? kItalic : kPlain) | (run & 2 ? kBold : kPlain);
    write(text.substr(run, close - run), sign, more);
    return close + run;
  }

  // [text](address), with or without ! before it.
  size_t link() const {
    const size_t open = text[0] == '!' ? 1 : 0;
    if (text.size() == 1 && open == 1 && !final) return kMore;
    const size_t close = at(open) == '[' ? text.find(']', open) : text.npos;
    if (at(open) != '[' || (close != text.npos && close + 1 < text.size() && text[close + 1] != '(')) {
      out.put(text[0], style);
      return 1;
    }
    const size_t end = close == text.npos ? text.npos : text.find(')', close);
    if (end == text.npos) return unclosed(1);
    const auto name = text.substr(open + 1, close - open - 1), address = text.substr(close + 2, end - close - 2);
    if (name.empty() || name == address) {
      out.put(address, style | kUnderline);
    } else {
      write(name, '[', kUnderline);
      out.put(U" (", style);
      out.put(address, style | kDim);
      out.put(U")", style);
    }
    return end + 1;
  }

  size_t token() const {
    switch (text[0]) {
      case '\\':
        return escape();
      case '`':
        return code();
      case '*':
      case '_':
      case '~':
        return emphasis();
      case '!':
      case '[':
        return link();
      default:
        out.put(text[0], style);
        return 1;
    }
  }
};

}  // namespace

size_t write_inline(Text line, char32_t before, bool final, unsigned style, Layout& out) {
  size_t done = 0;
  while (done < line.size()) {
    const size_t length = Line{line.substr(done), before, final, style, out}.token();
    if (length == kMore) break;
    done += length;
    before = line[done - 1];
  }
  return done;
}

}  // namespace mlx_lm::cli
