#include "mlx_lm/cli/line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "mlx_lm/base/error.h"

namespace mlx_lm::cli {
namespace {

constexpr int kHistorySize = 1000;

// Terminals that know bracketed paste put these around what is pasted, and do it while it is switched on.
constexpr const char* kPasteOn = "\x1b[?2004h";
constexpr const char* kPasteOff = "\x1b[?2004l";
constexpr std::u32string_view kPasteEnd = U"\x1b[201~";
constexpr size_t kMaxPaste = 16 << 20;

// A key that no keyboard has, to have the line drawn again.
constexpr std::u32string_view kRedraw = U"\x1b[9999~";

int changed[2];  // a pipe of signals: the terminal has another size, or other settings after a time in the background

void on_change(int signal) {
  const char byte = char(signal);
  [[maybe_unused]] auto n = ::write(changed[1], &byte, 1);
}

std::wstring wide(std::string_view text) {
  std::wstring out;
  const auto take = [&](char32_t c) { out += wchar_t(c); };
  Utf8Reader reader;
  reader.add(text, take);
  reader.finish(take);
  return out;
}

std::string narrow(std::wstring_view text) {
  std::string out;
  for (wchar_t c : text) append_utf8(out, char32_t(c));
  return out;
}

}  // namespace

LineEditor& LineEditor::of(editline* editor) {
  void* self = nullptr;
  ::el_wget(editor, EL_CLIENTDATA, &self);
  return *static_cast<LineEditor*>(self);
}

LineEditor::LineEditor(std::FILE* out, int interrupts, Complete complete)
    : out_(out),
      interrupts_(interrupts),
      complete_(std::move(complete)),
      editor_(::el_init("mlx_lm", stdin, out, stderr)),
      history_(::history_winit()) {
  if (!editor_ || !history_ || ::pipe2(changed, O_CLOEXEC | O_NONBLOCK) != 0) {
    fail<Error>("[chat] the terminal cannot be used to edit lines");
  }
  struct sigaction action {};
  action.sa_handler = on_change;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGWINCH, &action, nullptr);
  ::sigaction(SIGCONT, &action, nullptr);
  HistEventW event;
  ::history_w(history_, &event, H_SETSIZE, kHistorySize);
  ::history_w(history_, &event, H_SETUNIQUE, 1);
  bind();
}

LineEditor::~LineEditor() {
  ::el_end(editor_);
  ::history_wend(history_);
}

void LineEditor::bind() {
  ::el_wset(editor_, EL_CLIENTDATA, this);
  ::el_wset(editor_, EL_SIGNAL, 0);
  ::el_wset(editor_, EL_HIST, ::history_w, history_);
  ::el_wset(editor_, EL_EDITOR, L"emacs");
  const auto prompt = [](editline* editor) { return of(editor).prompt_.data(); };
  ::el_wset(editor_, EL_PROMPT_ESC, static_cast<wchar_t* (*)(editline*)>(prompt), L'\1');
  const auto read = [](editline* editor, wchar_t* letter) { return of(editor).next_letter(letter); };
  ::el_wset(editor_, EL_GETCFN, static_cast<int (*)(editline*, wchar_t*)>(read));

  using Function = unsigned char (*)(editline*, wint_t);
  const auto add = [&](const wchar_t* name, Function function) { ::el_wset(editor_, EL_ADDFN, name, name, function); };
  add(L"mlx-paste", [](editline* editor, wint_t) { return of(editor).paste(); });
  add(L"mlx-complete", [](editline* editor, wint_t) { return of(editor).complete(); });
  add(L"mlx-line-end", [](editline* editor, wint_t) -> unsigned char {
    of(editor).insert(U"\n");
    return CC_REFRESH;
  });
  constexpr const wchar_t* kKeys[][2] = {
      {L"\\e[200~", L"mlx-paste"},    {L"^I", L"mlx-complete"},       {L"\\e^M", L"mlx-line-end"},
      {L"\\e^J", L"mlx-line-end"},    {L"^R", L"em-inc-search-prev"}, {L"\\e[3~", L"ed-delete-next-char"},
      {L"\\e[1;5C", L"em-next-word"}, {L"\\e[1;5D", L"ed-prev-word"}, {L"\\e[9999~", L"ed-redisplay"},
  };
  for (const auto& [key, function] : kKeys) ::el_wset(editor_, EL_BIND, key, function, nullptr);
  ::el_source(editor_, nullptr);
}

LineEditor::Event LineEditor::read(std::string_view prompt, std::string& line) {
  prompt_ = L"\1\x1b[1m\1" + wide(prompt) + L"\1\x1b[0m\1";
  interrupted_ = false;
  line.clear();
  std::fputs(kPasteOn, out_);
  std::fflush(out_);
  // libedit does it after it has shown the prompt, so that a key pressed at once would be the old settings'.
  ::el_wset(editor_, EL_PREP_TERM, 1);
  int count = 0;
  const wchar_t* text = ::el_wgets(editor_, &count);
  if (interrupted_) {
    const auto* info = ::el_wline(editor_);
    line = narrow({info->buffer, size_t(info->lastchar - info->buffer)});
  } else if (text && count > 0) {
    line = narrow({text, size_t(count)});
  }
  std::fputs(kPasteOff, out_);
  if (interrupted_ || !text || count <= 0) std::fputc('\n', out_);
  std::fflush(out_);
  if (interrupted_) return Event::interrupt;
  if (!text || count <= 0) return Event::end;
  if (line.ends_with('\n')) line.pop_back();
  return Event::line;
}

void LineEditor::remember(const std::string& line) {
  HistEventW event;
  ::history_w(history_, &event, H_ENTER, wide(line).c_str());
}

// 1: a letter, 0: the input has ended, -1: interrupted.
int LineEditor::next_letter(wchar_t* letter) {
  while (ready_.empty()) {
    if (wait_for_more()) continue;
    errno = interrupted_ ? EINTR : 0;
    return interrupted_ ? -1 : 0;
  }
  *letter = wchar_t(ready_.front());
  ready_.erase(0, 1);
  return 1;
}

// False: there is no more, or an interrupt came.
bool LineEditor::wait_for_more() {
  pollfd wait[] = {{interrupts_, POLLIN, 0}, {changed[0], POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  if (::poll(wait, 3, -1) < 0) return errno == EINTR;
  if (wait[0].revents) {
    interrupted_ = true;
    return false;
  }
  if (wait[1].revents) {
    take_changes();
    return true;
  }
  char byte;
  const auto n = ::read(STDIN_FILENO, &byte, 1);
  if (n == 1) reader_.add({&byte, 1}, [&](char32_t c) { ready_ += c; });
  return n == 1 || (n < 0 && errno == EINTR);
}

void LineEditor::take_changes() {
  char signal;
  while (::read(changed[0], &signal, 1) == 1) {
    if (signal == SIGCONT) {
      for (int raw : {0, 1}) ::el_wset(editor_, EL_PREP_TERM, raw);
      std::fputs(kPasteOn, out_);
      ::el_wset(editor_, EL_REFRESH);
    } else {
      ::el_resize(editor_);
      ready_ = kRedraw;
    }
  }
}

unsigned char LineEditor::paste() {
  std::u32string text;
  wchar_t letter;
  while (!text.ends_with(kPasteEnd)) {
    if (text.size() >= kMaxPaste || next_letter(&letter) != 1) return CC_EOF;
    text += char32_t(letter);
  }
  text.resize(text.size() - kPasteEnd.size());
  std::u32string clean;
  for (char32_t c : text) {
    if (c == '\r') c = '\n';
    if (c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7F && !(c >= 0x80 && c < 0xA0))) clean += c;
  }
  insert(clean);
  return CC_REFRESH;
}

unsigned char LineEditor::complete() {
  std::string text;
  for (char32_t c : before_cursor()) append_utf8(text, c);
  const auto found = complete_(text);
  if (found.empty()) return CC_REFRESH_BEEP;
  std::string_view common = found[0];
  for (std::string_view each : found) {
    const auto [a, b] = std::mismatch(common.begin(), common.end(), each.begin(), each.end());
    common = common.substr(0, size_t(a - common.begin()));
  }
  if (common.size() <= text.size()) return CC_REFRESH_BEEP;
  std::u32string more;
  Utf8Reader reader;
  reader.add(common.substr(text.size()), [&](char32_t c) { more += c; });
  insert(more);
  return CC_REFRESH;
}

void LineEditor::insert(std::u32string_view text) {
  std::wstring letters;
  for (char32_t c : text) letters += wchar_t(c);
  if (!letters.empty()) ::el_winsertstr(editor_, letters.c_str());
}

std::u32string LineEditor::before_cursor() const {
  const auto* info = ::el_wline(editor_);
  std::u32string out;
  for (const wchar_t* c = info->buffer; c != info->cursor; ++c) out += char32_t(*c);
  return out;
}

}  // namespace mlx_lm::cli
