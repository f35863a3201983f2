// The terminal or the pipe that a chat goes through.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mlx_lm/cli/input_history.h"
#include "mlx_lm/cli/interrupt.h"
#include "mlx_lm/cli/line_editor.h"
#include "mlx_lm/cli/markdown.h"

namespace mlx_lm::cli {

// At a terminal: a prompt with line editing and history, and answers as Markdown. Where standard input is none, each of
// its lines is a message, and nothing but the answers is written to standard output; where only standard output is
// none, the answers go there as they are, and the rest to standard error. Whatever is written, no letter of it is
// obeyed by a terminal.
class ChatScreen {
 public:
  explicit ChatScreen(const Interrupts& interrupts);

  bool is_interactive() const { return editor_ != nullptr; }

  // The next message or command; nullopt at the end. stopped: an interrupt came just before, so that the next one at an
  // empty prompt is the second. Errors: Error for a line of more than kMaxLine bytes.
  std::optional<std::string> read(bool stopped);
  static constexpr size_t kMaxLine = 16 << 20;

  // An answer. reasoning comes before its text, and is left out where no terminal shows it.
  void begin_answer();
  void reasoning(std::string_view text);
  void text(std::string_view text);
  void end_answer();

  // What the program says by itself, of one line or several; nothing where nobody is there.
  void note(std::string_view text);
  void title(std::string_view text);
  // What it was asked for; on standard error where nobody is there.
  void report(std::string_view text);
  // What should not be missed; likewise.
  void warn(std::string_view text);

 private:
  enum class Part { none, reasoning, text };

  std::optional<std::string> read_line();
  std::optional<std::string> read_block(std::string first);
  void write_answer(std::string_view bytes);
  void write_note(std::string_view text, unsigned style);

  Interrupts interrupts_;
  bool styled_;       // standard output shows Markdown
  std::FILE* notes_;  // where the program talks to somebody; null: there is nobody
  std::unique_ptr<LineEditor> editor_;
  std::unique_ptr<InputHistory> history_;
  std::unique_ptr<Markdown> markdown_;
  std::unique_ptr<Layout> thoughts_;
  Utf8Reader reader_;
  Part part_ = Part::none;
  bool line_begun_ = false;  // of the answer or its reasoning
};

}  // namespace mlx_lm::cli
