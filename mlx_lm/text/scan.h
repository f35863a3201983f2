// Small readers of text, by the rules of Python's strings.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mlx_lm::text {

// Bytes of the white space character at the start of text, Unicode's included; 0 if there is none.
size_t space_at(std::string_view text);
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
std::string_view strip(std::string_view text);

// Letters, digits, _, and every byte of a character beyond ASCII: what may stand in a name.
bool is_word(char c);
bool is_digit(char c);
// ASCII letters in lower case.
std::string lower(std::string_view text);

// What stands between the next `open` from `from` on and the first `close` after it.
struct Block {
  std::string_view text;
  size_t begin, end;  // of open and of close, in the whole
};
std::optional<Block> next_block(std::string_view text, std::string_view open, std::string_view close, size_t from = 0);

// The first `needle` from a place on, for places that only grow: linear over all of them.
class Finder {
 public:
  Finder(std::string_view text, std::string_view needle) : text_(text), needle_(needle), found_(text.find(needle)) {}
  size_t from(size_t at) {
    if (found_ < at) found_ = text_.find(needle_, at);
    return found_;
  }

 private:
  std::string_view text_, needle_;
  size_t found_;
};

// A part of text to be shown in an error: its beginning, on one line.
std::string excerpt(std::string_view text);

}  // namespace mlx_lm::text
