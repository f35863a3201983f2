#include "mlx_lm/cli/markdown.h"

#include <algorithm>
#include <utility>

#include "mlx_lm/cli/markdown_inline.h"

namespace mlx_lm::cli {
namespace {

constexpr size_t kMaxStart = 200;  // letters after which a line is a text in any case
constexpr size_t kMaxIndent = 24;
constexpr int kMaxRule = 48;
constexpr int kMaxBlankLines = 2;

size_t indent_of(std::u32string_view s) { return std::min(s.find_first_not_of(U' '), s.size()); }

bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }

}  // namespace

void Markdown::add(std::string_view text) {
  reader_.add(text, [&](char32_t c) { take(c); });
}

void Markdown::finish() {
  reader_.finish([&](char32_t c) { take(c); });
  if (line_ != Line::start || !start_.empty() || !prefix_.empty()) end_line();
  if (std::exchange(fence_, 0) > 0) write_rule(U"");
  in_list_ = started_ = false;
  blank_lines_ = 0;
}

void Markdown::take(char32_t c) {
  if (c == '\r') return;
  if (c == '\n') {
    end_line();
    return;
  }
  c = shown(c);
  switch (line_) {
    case Line::start:
      if (std::exchange(after_quote_, false) && c == ' ') break;
      if (c == '\t') {
        start_ += U"    ";
      } else {
        start_ += c;
      }
      if (fence_ > 0) {
        if (!may_close_fence()) begin(Block::verbatim);
      } else if (const auto block = classify(false); block != Block::more) {
        begin(block);
      }
      break;
    case Line::text:
      pending_ += c;
      write_rest(false);
      break;
    case Line::verbatim:
      out_.put_verbatim(c, style_);
      break;
  }
}

void Markdown::end_line() {
  if (line_ == Line::start) {
    if (fence_ > 0) {
      if (closes_fence()) {
        start_.clear();
        fence_ = 0;
        write_rule(U"");
        return;
      }
      begin(Block::verbatim);
    } else {
      const auto block = classify(true);
      if (block == Block::blank && prefix_.empty()) {
        start_.clear();
        if (started_) blank_lines_ = std::min(blank_lines_ + 1, kMaxBlankLines);
        return;
      }
      begin(block);
      if (block == Block::rule || block == Block::fence) return;
    }
  }
  if (line_ == Line::text) write_rest(true);
  out_.end_line();
  line_ = Line::start;
  style_ = kPlain;
  before_ = 0;
  prefix_.clear();
  after_quote_ = false;
}

// What the line is that begins with start_, outside of blocks of code.
Markdown::Block Markdown::classify(bool complete) const {
  const size_t indent = indent_of(start_);
  if (indent == start_.size()) return complete ? Block::blank : indent < kMaxStart ? Block::more : Block::text;
  if (start_.size() >= kMaxStart) return Block::text;
  if (indent >= 4 && !in_list_) return Block::verbatim;
  const auto rest = std::u32string_view(start_).substr(indent);
  if (is_digit(rest[0])) {
    const size_t digits = std::min(rest.find_first_not_of(U"0123456789"), rest.size());
    if (digits > 9) return Block::text;
    if (digits == rest.size()) return complete ? Block::text : Block::more;
    if (rest[digits] != '.' && rest[digits] != ')') return Block::text;
    if (digits + 1 == rest.size()) return complete ? Block::text : Block::more;
    return rest[digits + 1] == ' ' ? Block::number : Block::text;
  }
  switch (rest[0]) {
    case '>':
      return Block::quote;
    case '|':
      return Block::table;
    case '#': {
      const size_t count = std::min(rest.find_first_not_of(U'#'), rest.size());
      if (count > 6) return Block::text;
      if (count == rest.size()) return complete ? Block::text : Block::more;
      return rest[count] == ' ' ? Block::heading : Block::text;
    }
    case '`':
    case '~': {
      const size_t count = std::min(rest.find_first_not_of(rest[0]), rest.size());
      if (count < 3) return count == rest.size() && !complete ? Block::more : Block::text;
      // In a quote its end would begin with the quote's sign.
      if (!prefix_.empty() || rest.find('`', count) != rest.npos) return Block::text;
      return complete ? Block::fence : Block::more;
    }
    case '-':
    case '*':
    case '+':
    case '_':
      return classify_signs(indent, complete);
    default:
      return Block::text;
  }
}

// A rule, an item of a list, or a text.
Markdown::Block Markdown::classify_signs(size_t indent, bool complete) const {
  const auto rest = std::u32string_view(start_).substr(indent);
  const bool item = rest[0] != '_' && rest.size() > 1 && rest[1] == ' ';
  const auto count = std::count(rest.begin(), rest.end(), rest[0]);
  const auto spaces = std::count(rest.begin(), rest.end(), U' ');
  if (rest[0] != '+' && count + spaces == std::ptrdiff_t(rest.size())) {
    if (!complete) return Block::more;
    if (count >= 3) return Block::rule;
  }
  if (rest.size() == 1 && !complete) return Block::more;
  return item ? Block::bullet : Block::text;
}

void Markdown::begin_line() {
  for (; blank_lines_ > 0; --blank_lines_) out_.end_line();
  started_ = true;
}

// start_ is the beginning of such a line.
void Markdown::begin(Block block) {
  begin_line();
  const auto start = std::exchange(start_, {});
  const size_t indent = std::min(indent_of(start), kMaxIndent);
  const auto rest = std::u32string_view(start).substr(indent_of(start));
  if (block != Block::quote && block != Block::blank && prefix_.empty()) {
    in_list_ = block == Block::bullet || block == Block::number || (in_list_ && indent > 0);
  }
  const auto indented = [&] {
    for (size_t i = 0; i < indent; ++i) out_.put_verbatim(' ', kPlain);
    hang(indent);
  };
  line_ = Line::text;
  switch (block) {
    case Block::heading: {
      const size_t level = rest.find(' ');
      style_ = level == 1 ? kBold | kUnderline : kBold;
      const size_t text = std::min(rest.find_first_not_of(U' ', level), rest.size());
      pending_ = rest.substr(text);
      break;
    }
    case Block::bullet:
      indented();
      begin_item(U"• ");
      pending_ = rest.substr(std::min(rest.find_first_not_of(U' ', 2), rest.size()));
      break;
    case Block::number: {
      indented();
      const size_t sign = rest.find(' ') + 1;
      begin_item(rest.substr(0, sign));
      pending_ = rest.substr(sign);
      break;
    }
    case Block::quote:
      for (char32_t c : std::u32string_view(U"│ ")) out_.put_verbatim(c, kDim);
      prefix_ += U"│ ";
      line_ = Line::start;
      after_quote_ = true;
      return;
    case Block::rule:
      line_ = Line::start;
      prefix_.clear();
      write_rule(U"");
      return;
    case Block::fence:
      line_ = Line::start;
      prefix_.clear();
      fence_sign_ = rest[0];
      fence_ = std::min(rest.find_first_not_of(fence_sign_), rest.size());
      write_rule(rest.substr(fence_));
      return;
    case Block::verbatim:
    case Block::table:
      line_ = Line::verbatim;
      style_ = block == Block::table ? kPlain : kCode;
      for (char32_t c : start) out_.put_verbatim(c, style_);
      return;
    default:
      indented();
      pending_ = rest;
  }
  write_rest(false);
}

void Markdown::begin_item(std::u32string_view sign) {
  for (char32_t c : sign) out_.put_verbatim(c, kPlain);
  hang(size_t(out_.column()) - prefix_.size());
}

void Markdown::hang(size_t indent) {
  out_.hang(prefix_ + std::u32string(indent, ' '), prefix_.empty() ? kPlain : kDim);
}

void Markdown::write_rest(bool final) {
  const size_t done = write_inline(pending_, before_, final, style_, out_);
  if (done == 0) return;
  before_ = pending_[done - 1];
  pending_.erase(0, done);
}

// So far it may be the end of the block of code.
bool Markdown::may_close_fence() const {
  if (start_.size() >= kMaxStart) return false;
  const auto rest = std::u32string_view(start_).substr(indent_of(start_));
  return rest.substr(std::min(rest.find_first_not_of(fence_sign_), rest.size())).find_first_not_of(U' ') == rest.npos;
}

bool Markdown::closes_fence() const {
  const auto signs = std::count(start_.begin(), start_.end(), fence_sign_);
  return size_t(signs) >= fence_ && may_close_fence();
}

void Markdown::write_rule(std::u32string_view title) {
  begin_line();
  const size_t first = title.find_first_not_of(U' ');
  title = first == title.npos ? title.substr(0, 0) : title.substr(first);
  const int length = std::min(out_.width(), kMaxRule);
  const auto line = [&](int count) {
    for (int i = 0; i < count; ++i) out_.put_verbatim(U'─', kDim);
  };
  if (!title.empty()) {
    line(2);
    out_.put_verbatim(' ', kDim);
    for (char32_t c : title) {
      if (out_.column() + 1 < length) out_.put_verbatim(c, kDim);
    }
    out_.put_verbatim(' ', kDim);
  }
  line(length - out_.column());
  out_.end_line();
}

}  // namespace mlx_lm::cli
