// Lines that somebody types at a terminal.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_lm/cli/terminal_text.h"

struct editline;
struct historyW;

namespace mlx_lm::cli {

// libedit, with the user's own keys (~/.editrc) and these: Alt-Enter and pasted line ends put a line end into the line,
// Tab completes, Ctrl-R searches in earlier lines. One object in a program.
class LineEditor {
 public:
  enum class Event { line, end, interrupt };
  // What may stand where the text before the cursor stands.
  using Complete = std::function<std::vector<std::string>(std::string_view text)>;

  // Reads standard input, which is a terminal. out: a terminal too. interrupts: a descriptor that becomes readable when
  // the line should end as interrupted. Errors: Error when libedit cannot use the terminal.
  LineEditor(std::FILE* out, int interrupts, Complete complete);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // The next line, without its end; on an interrupt what was typed so far. prompt: printed before it, in bold.
  Event read(std::string_view prompt, std::string& line);
  // An earlier line, for the arrow keys.
  void remember(const std::string& line);

 private:
  static LineEditor& of(editline* editor);
  void bind();
  int next_letter(wchar_t* letter);
  bool wait_for_more();
  void take_changes();
  unsigned char paste();
  unsigned char complete();
  void insert(std::u32string_view text);
  std::u32string before_cursor() const;

  std::FILE* out_;
  int interrupts_;
  Complete complete_;
  editline* editor_;
  historyW* history_;
  std::wstring prompt_;
  Utf8Reader reader_;
  std::u32string ready_;  // letters read and not handed out
  bool interrupted_ = false;
};

}  // namespace mlx_lm::cli
