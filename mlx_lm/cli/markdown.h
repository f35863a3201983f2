// Markdown for people at a terminal, while it comes.
#pragma once

#include <string>
#include <string_view>

#include "mlx_lm/cli/terminal_text.h"

namespace mlx_lm::cli {

// Writes a text once and for all, piece by piece: nothing is drawn again. So what a line is (a heading, an item, code)
// waits for its first letters, a word for its end, and emphasised text, inline code and links for the sign that closes
// them, in the same line and soon (kMaxHeld letters); else they are written as they are. However the text is cut, the
// same is written. Headings are bold, blocks of code stand between rules and can be copied as they are, items get a
// bullet and hang. Line ends stay line ends. Nothing that the text holds is obeyed by the terminal.
class Markdown {
 public:
  explicit Markdown(Layout::Sink sink, int width) : out_(std::move(sink), width) {}

  void add(std::string_view text);
  // The text is complete. Afterwards the cursor is at the beginning of a line, and another text may come.
  void finish();

 private:
  enum class Line { start, text, verbatim };
  enum class Block { more, text, heading, bullet, number, quote, rule, fence, table, verbatim, blank };

  void take(char32_t c);
  void end_line();
  Block classify(bool complete) const;
  Block classify_signs(size_t indent, bool complete) const;
  void begin(Block block);
  void begin_item(std::u32string_view sign);
  void hang(size_t indent);
  void open_fence();
  bool may_close_fence() const;
  bool closes_fence() const;
  void write_rule(std::u32string_view title);
  void write_rest(bool final);
  void begin_line();

  Layout out_;
  Utf8Reader reader_;
  Line line_ = Line::start;
  std::u32string start_;    // of a line whose kind is not known yet
  std::u32string pending_;  // of a line, not decided yet
  char32_t before_ = 0;     // the letter before that
  unsigned style_ = kPlain;
  std::u32string prefix_;     // of quotes
  bool after_quote_ = false;  // whose sign may have a space
  size_t fence_ = 0;          // signs of the block of code that is open; 0: none
  char32_t fence_sign_ = 0;
  bool in_list_ = false;  // indented lines go on with an item
  bool started_ = false;  // something was written
  int blank_lines_ = 0;   // not written yet
};

}  // namespace mlx_lm::cli
