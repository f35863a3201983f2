#include "mlx_lm/cli/terminal_text.h"

#include <locale.h>
#include <wchar.h>

#include <algorithm>
#include <cstdlib>

#include "mlx_lm/text/utf8.h"

namespace mlx_lm::cli {
namespace {

// Of the character that begins with this byte, well-formed or not.
size_t length_of(unsigned char lead) {
  return lead < 0xC2 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 1;
}

char32_t decode(std::string_view c) {
  if (c.size() == 1) return static_cast<unsigned char>(c[0]);
  char32_t point = static_cast<unsigned char>(c[0]) & (0xFF >> (c.size() + 1));
  for (char byte : c.substr(1)) point = point << 6 | (byte & 0x3F);
  return point;
}

// The widths of Unicode, whatever the user's own locale.
locale_t unicode() {
  static const locale_t locale = [] {
    for (const char* name : {"C.UTF-8", "en_US.UTF-8", "UTF-8"}) {
      if (locale_t found = ::newlocale(LC_CTYPE_MASK, name, nullptr)) return found;
    }
    return locale_t(nullptr);
  }();
  return locale;
}

// Not at the beginning of a line.
bool closes(char32_t c) {
  constexpr std::u32string_view kClosing = U"、。，．：；？！）」』】〕〉》〗〙〛ー々…";
  return kClosing.find(c) != kClosing.npos;
}

std::string sgr(unsigned style) {
  static const char* const no_color = std::getenv("NO_COLOR");  // no-color.org: set and not empty
  if (no_color && *no_color) style &= ~unsigned(kCode);
  constexpr const char* kCodes[] = {";1", ";2", ";3", ";4", ";9", ";36"};
  std::string code = "\x1b[0";
  for (size_t i = 0; i < std::size(kCodes); ++i) {
    if (style & 1u << i) code += kCodes[i];
  }
  return code + "m";
}

}  // namespace

bool Utf8Reader::next(size_t& at, char32_t& c) const {
  if (at >= rest_.size()) return false;
  const std::string_view rest = std::string_view(rest_).substr(at);
  const size_t length = length_of(static_cast<unsigned char>(rest[0]));
  const auto character = rest.substr(0, length);
  const size_t invalid = text::find_invalid(character);
  if (invalid == character.npos) {
    c = decode(character);
    at += length;
    return true;
  }
  // As far as it goes it may be the beginning of a character.
  const auto continues = [](char byte) { return (byte & 0xC0) == 0x80; };
  size_t good = 1;
  while (good < character.size() && continues(character[good])) ++good;
  if (length > 1 && good == character.size() && good < length) return false;
  c = 0xFFFD;
  at += length == 1 ? 1 : good;
  return true;
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += {char(0xC0 | c >> 6), char(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {char(0xE0 | c >> 12), char(0x80 | (c >> 6 & 0x3F)), char(0x80 | (c & 0x3F))};
  } else {
    out += {char(0xF0 | c >> 18), char(0x80 | (c >> 12 & 0x3F)), char(0x80 | (c >> 6 & 0x3F)), char(0x80 | (c & 0x3F))};
  }
}

char32_t shown(char32_t c) {
  if (c == '\n' || c == '\t') return c;
  if (c < 0x20) return 0x2400 + c;  // Unicode's pictures of control characters
  if (c == 0x7F) return 0x2421;
  const bool turns = (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
  const bool separates = c == 0x2028 || c == 0x2029;
  return (c >= 0x80 && c < 0xA0) || turns || separates ? 0xFFFD : c;
}

std::string visible(std::string_view text) {
  std::string out;
  const auto take = [&](char32_t c) { append_utf8(out, shown(c)); };
  Utf8Reader reader;
  reader.add(text, take);
  reader.finish(take);
  return out;
}

int columns(char32_t c) {
  if (c >= 0x20 && c < 0x7F) return 1;
  if (!unicode()) return 1;
  const locale_t own = ::uselocale(unicode());
  const int width = ::wcwidth(wchar_t(c));
  ::uselocale(own);
  return width < 0 ? 1 : width;
}

Layout::Layout(Sink sink, int width) : sink_(std::move(sink)), width_(std::max(width, 8)) {}

void Layout::put(char32_t letter, unsigned style) {
  if (letter == ' ' || letter == '\t') {
    end_word();
    // At the beginning of a line that a break made they would look like an indentation.
    if (!broken_) spaces_ += 1;
    space_style_ = style;
    flush();
    return;
  }
  const int wide = columns(letter);
  const bool breaks = wide == 2 || (wide == 1 && !word_.empty() && columns(word_.back().letter) == 2);
  if (breaks && !closes(letter)) end_word();
  word_.push_back({letter, style});
  word_columns_ += wide;
  if (word_columns_ > width_) end_word();
  flush();
}

void Layout::put(std::u32string_view letters, unsigned style) {
  for (char32_t letter : letters) put(letter, style);
}

void Layout::put_verbatim(char32_t letter, unsigned style) {
  end_word();
  const int count = letter == '\t' ? 4 - column() % 4 : 1;
  for (; spaces_ > 0; --spaces_) write(' ', kPlain);
  for (int i = 0; i < count; ++i) write(letter == '\t' ? ' ' : letter, style);
  flush();
}

void Layout::end_line() {
  end_word();
  spaces_ = 0;
  prefix_.clear();
  prefix_columns_ = 0;
  if (style_ != kPlain) out_ += sgr(style_ = kPlain);
  out_ += '\n';
  column_ = 0;
  broken_ = false;
  flush();
}

void Layout::hang(std::u32string_view prefix, unsigned style) {
  prefix_ = prefix;
  prefix_style_ = style;
  prefix_columns_ = 0;
  for (char32_t letter : prefix) prefix_columns_ += columns(letter);
}

void Layout::end_word() {
  if (word_.empty()) return;
  // A word that no line can hold begins where it is, and the terminal breaks it: so it can be copied whole.
  const bool fits_a_line = prefix_columns_ + word_columns_ <= width_;
  if (column_ + spaces_ + word_columns_ > width_ && column_ > prefix_columns_ && fits_a_line) break_line();
  for (; spaces_ > 0; --spaces_) write(' ', space_style_);
  for (const auto& each : word_) write(each.letter, each.style);
  word_.clear();
  word_columns_ = 0;
}

void Layout::break_line() {
  spaces_ = 0;
  if (style_ != kPlain) out_ += sgr(style_ = kPlain);
  out_ += '\n';
  column_ = 0;
  for (char32_t letter : prefix_) write(letter, prefix_style_);
  broken_ = true;
}

void Layout::write(char32_t letter, unsigned style) {
  if (style != style_) out_ += sgr(style_ = style);
  append_utf8(out_, letter);
  const int wide = columns(letter);
  column_ = column_ + wide > width_ ? wide : column_ + wide;
  broken_ = false;
}

void Layout::flush() {
  if (out_.empty()) return;
  sink_(out_);
  out_.clear();
}

}  // namespace mlx_lm::cli
