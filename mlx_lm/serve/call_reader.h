// The calls of an answer that is a list of them, taken apart while it comes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlx_lm::serve {

// Reads [{"name": ..., "arguments": {...}}, ...], as call_grammar() has it, cut anywhere. What does not start as a list
// is text.
class CallReader {
 public:
  struct Piece {
    enum class Kind { text, call, arguments } kind;
    std::string text;  // text, the function's name with which a call begins, or more of the call's arguments
  };

  std::vector<Piece> add(std::string_view text);
  // Calls that have begun.
  int calls() const { return calls_; }

 private:
  enum class State { start, text, list } state_ = State::start;
  int depth_ = 0;  // of brackets
  bool in_string_ = false, escaped_ = false, in_arguments_ = false;
  std::string head_;  // of the call, up to its arguments
  int calls_ = 0;
};

}  // namespace mlx_lm::serve
