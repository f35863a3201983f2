#include "mlx_lm/cli/chat_screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <clocale>
#include <cstdlib>
#include <iostream>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/chat_commands.h"

namespace mlx_lm::cli {
namespace {

constexpr std::string_view kPrompt = "› ", kMore = "… ";
constexpr std::string_view kBlock = "\"\"\"";

int terminal_width() {
  winsize size{};
  return ::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// libedit reads and shows letters by the locale; without one that knows them all, only ASCII would pass.
void use_unicode() {
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX > 1) return;
  for (const char* name : {"C.UTF-8", "en_US.UTF-8", "UTF-8"}) {
    if (std::setlocale(LC_CTYPE, name)) return;
  }
}

// The last backslash is there to be one that goes on, not the second of a pair.
bool goes_on(std::string_view line) {
  const size_t last = line.find_last_not_of('\\');
  return (line.size() - (last == line.npos ? 0 : last + 1)) % 2 == 1;
}

}  // namespace

ChatScreen::ChatScreen(const Interrupts& interrupts)
    : interrupts_(interrupts),
      styled_(::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO)),
      notes_(!::isatty(STDIN_FILENO)   ? nullptr
             : styled_                 ? stdout
             : ::isatty(STDERR_FILENO) ? stderr
                                       : nullptr) {
  if (!notes_) return;
  use_unicode();
  editor_ = std::make_unique<LineEditor>(notes_, interrupts_.descriptor(), complete_command);
  history_ = std::make_unique<InputHistory>(default_history_file());
  for (const auto& entry : history_->entries()) editor_->remember(entry);
}

std::optional<std::string> ChatScreen::read(bool stopped) {
  if (!editor_) return read_line();
  for (;;) {
    std::string line;
    switch (editor_->read(kPrompt, line)) {
      case LineEditor::Event::end:
        return std::nullopt;
      case LineEditor::Event::interrupt:
        interrupts_.take();
        if (line.empty() && stopped) return std::nullopt;
        stopped = line.empty();
        if (stopped) note("Ctrl-C again, or Ctrl-D, ends the chat");
        continue;
      case LineEditor::Event::line:
        break;
    }
    stopped = false;
    auto whole = read_block(std::move(line));
    if (!whole || whole->find_first_not_of(" \t\n") == whole->npos) continue;
    history_->add(*whole);
    editor_->remember(*whole);
    return whole;
  }
}

std::optional<std::string> ChatScreen::read_line() {
  std::string line;
  do {
    line.clear();
    int c;
    while ((c = std::cin.get()) != EOF && c != '\n') {
      if (line.size() == kMaxLine) fail<Error>("[chat] input: expected lines of at most {} bytes", kMaxLine);
      line += char(c);
    }
    if (c == EOF && line.empty()) return std::nullopt;
    if (line.ends_with('\r')) line.pop_back();
  } while (line.find_first_not_of(" \t") == line.npos);
  return line;
}

// The message that begins with this line: up to the end of a block, or to a line that does not end in a backslash.
// nullopt: it was given up.
std::optional<std::string> ChatScreen::read_block(std::string first) {
  std::string line = std::move(first), whole;
  const bool block = line.starts_with(kBlock);
  if (block) line.erase(0, kBlock.size());
  for (;;) {
    whole += line;
    if (block && line.ends_with(kBlock)) {
      whole.resize(whole.size() - kBlock.size());
      if (whole.starts_with('\n')) whole.erase(0, 1);
      if (whole.ends_with('\n')) whole.pop_back();
      return whole;
    }
    if (!block && !goes_on(line)) return whole;
    if (!block) whole.pop_back();
    whole += '\n';
    const auto event = editor_->read(kMore, line);
    if (event == LineEditor::Event::line) continue;
    interrupts_.take();
    return std::nullopt;
  }
}

void ChatScreen::begin_answer() {
  part_ = Part::none;
  line_begun_ = false;
  if (!styled_) return;
  const auto sink = [this](std::string_view bytes) { write_answer(bytes); };
  const int width = terminal_width();
  markdown_ = std::make_unique<Markdown>(sink, width);
  thoughts_ = std::make_unique<Layout>(sink, width);
}

void ChatScreen::reasoning(std::string_view text) {
  if (!styled_) return;
  const auto take = [&](char32_t c) {
    if (c == '\n') {
      if (line_begun_) thoughts_->end_line();
      line_begun_ = false;
    } else if (c != '\r') {
      thoughts_->put(shown(c), kDim);
      line_begun_ = true;
    }
  };
  if (part_ == Part::text) markdown_->finish();
  part_ = Part::reasoning;
  reader_.add(text, take);
}

void ChatScreen::text(std::string_view text) {
  if (!styled_) {
    std::string out;
    const auto take = [&](char32_t c) {
      if (c == '\r' || (!line_begun_ && c == '\n')) return;
      line_begun_ = true;
      append_utf8(out, shown(c));
    };
    reader_.add(text, take);
    write_answer(out);
    if (!out.empty()) part_ = Part::text;
    return;
  }
  // White space between reasoning and answer is no answer yet.
  if (part_ == Part::reasoning) {
    if (text.find_first_not_of(" \t\r\n") == text.npos) return;
    if (line_begun_) thoughts_->end_line();
    write_answer("\n");
  }
  part_ = Part::text;
  markdown_->add(text);
}

void ChatScreen::end_answer() {
  if (!styled_) {
    write_answer("\n");
    return;
  }
  if (part_ == Part::text) markdown_->finish();
  if (part_ == Part::reasoning && line_begun_) thoughts_->end_line();
}

void ChatScreen::write_answer(std::string_view bytes) {
  std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    fail<Error>("[chat] the answer could not be written to standard output");
  }
}

void ChatScreen::note(std::string_view text) {
  if (notes_) write_note(text, kDim);
}

void ChatScreen::title(std::string_view text) {
  if (notes_) write_note(text, kBold);
}

void ChatScreen::report(std::string_view text) {
  if (notes_) return write_note(text, kDim);
  std::fprintf(stderr, "%s\n", visible(text).c_str());
}

void ChatScreen::warn(std::string_view text) {
  if (notes_) return write_note(text, kPlain);
  std::fprintf(stderr, "mlx_lm: %s\n", visible(text).c_str());
}

void ChatScreen::write_note(std::string_view text, unsigned style) {
  Layout layout([&](std::string_view bytes) { std::fwrite(bytes.data(), 1, bytes.size(), notes_); }, terminal_width());
  const auto take = [&](char32_t c) {
    if (c == '\n') {
      layout.end_line();
    } else {
      layout.put(shown(c), style);
    }
  };
  Utf8Reader reader;
  reader.add(text, take);
  reader.finish(take);
  layout.end_line();
  std::fflush(notes_);
}

}  // namespace mlx_lm::cli
