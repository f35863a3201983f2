// Text for a terminal: nothing in it is obeyed, and lines break between words.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace mlx_lm::cli {

// The characters of UTF-8 that may be cut anywhere. What is no UTF-8 becomes U+FFFD.
class Utf8Reader {
 public:
  template <class Take>
  void add(std::string_view bytes, Take&& take) {
    rest_ += bytes;
    size_t at = 0;
    for (char32_t c; next(at, c);) take(c);
    rest_.erase(0, at);
  }
  // What is left is no character.
  template <class Take>
  void finish(Take&& take) {
    if (!rest_.empty()) take(char32_t(0xFFFD));
    rest_.clear();
  }

 private:
  bool next(size_t& at, char32_t& c) const;

  std::string rest_;
};

void append_utf8(std::string& out, char32_t c);

// The character itself, or one that shows it: ␛ for escape, U+FFFD for one that changes the direction of what follows.
// Line feed and tab stay.
char32_t shown(char32_t c);
// The same for a text.
std::string visible(std::string_view text);

// Columns that a terminal gives to a character: 0, 1 or 2.
int columns(char32_t c);

// How letters look; a sum of these.
enum Style : unsigned { kPlain = 0, kBold = 1, kDim = 2, kItalic = 4, kUnderline = 8, kStrike = 16, kCode = 32 };

// Writes letters in lines of a given width. A word is written when it is complete, wide letters (CJK) one by one. Every
// line ends in the plain style.
class Layout {
 public:
  using Sink = std::function<void(std::string_view)>;

  // width: in columns; at least 8 are assumed.
  Layout(Sink sink, int width);

  // A letter of a text that breaks between words.
  void put(char32_t letter, unsigned style);
  void put(std::u32string_view letters, unsigned style);
  // A letter where it is; a tab goes to the next multiple of four.
  void put_verbatim(char32_t letter, unsigned style);
  void end_line();

  // What lines begin with that had to be broken; until the end of the line.
  void hang(std::u32string_view prefix, unsigned style = kPlain);
  // The column, with the word that is not written yet.
  int column() const { return column_ + spaces_ + word_columns_; }
  int width() const { return width_; }

 private:
  struct Letter {
    char32_t letter;
    unsigned style;
  };

  void end_word();
  void break_line();
  void write(char32_t letter, unsigned style);
  void flush();

  Sink sink_;
  int width_;
  std::string out_;
  int column_ = 0;
  unsigned style_ = kPlain;
  std::basic_string<char32_t> prefix_;
  unsigned prefix_style_ = kPlain;
  int prefix_columns_ = 0;
  int spaces_ = 0;  // before the word
  unsigned space_style_ = kPlain;
  std::vector<Letter> word_;
  int word_columns_ = 0;
  bool broken_ = false;  // the line began with a break, and has nothing yet
};

}  // namespace mlx_lm::cli
