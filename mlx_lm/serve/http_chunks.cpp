#include "mlx_lm/serve/http_chunks.h"

#include <algorithm>
#include <charconv>

#include "mlx_lm/serve/api_error.h"
#include "mlx_lm/serve/http_answer.h"

namespace mlx_lm::serve {

namespace {

[[noreturn]] void bad(std::string_view expected, std::string_view found) {
  throw ApiError(400, fmt::format("body: expected {}, found \"{}\"", expected, printable(found)));
}

}  // namespace

size_t ChunkReader::read(std::string_view bytes, std::string& body) {
  size_t i = 0;
  while (i < bytes.size() && !is_complete()) {
    if (state_ == State::data) {
      const auto size = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - i));
      body.append(bytes.substr(i, size));
      i += size;
      left_ -= size;
      if (left_ == 0) state_ = State::data_end;
    } else if (add_to_line(bytes[i++])) {
      end_line(body.size());
      line_.clear();
    }
  }
  return i;
}

// True at the line's end.
bool ChunkReader::add_to_line(char c) {
  const bool after_return = line_.ends_with('\r');
  if (after_return != (c == '\n')) bad("lines that end in CRLF", line_);
  if (c == '\n') {
    line_.pop_back();
    return true;
  }
  const auto code = static_cast<unsigned char>(c);
  if ((code < ' ' && c != '\t' && c != '\r') || code == 0x7f) bad("a line of text", line_ + c);
  line_ += c;
  if (++line_bytes_ > line_limit_) bad(fmt::format("at most {} bytes beside the chunks", line_limit_), line_);
  if (state_ == State::data_end && c != '\r') bad("the end of a chunk", line_);
  return false;
}

void ChunkReader::end_line(size_t body_size) {
  switch (state_) {
    case State::size:
      return begin_chunk(body_size);
    case State::data_end:
      state_ = State::size;
      line_bytes_ = 0;
      return;
    default:
      if (line_.empty()) {
        state_ = State::complete;
      } else if (const auto colon = line_.find_first_of(": \t");
                 colon == 0 || colon == std::string::npos || line_[colon] != ':') {
        bad("\"name: value\" after the last chunk", line_);
      }
  }
}

void ChunkReader::begin_chunk(size_t body_size) {
  const char* end = line_.data() + line_.size();
  const auto [after, error] = std::from_chars(line_.data(), end, left_, 16);
  if (error != std::errc() || line_[0] == '-' || (after != end && *after != ';')) {
    bad("a chunk's size in hexadecimal digits", line_);
  }
  if (left_ > body_limit_ - body_size) {
    throw ApiError(413, fmt::format("body: expected at most {} bytes, found more", body_limit_));
  }
  state_ = left_ == 0 ? State::trailer : State::data;
  line_bytes_ = 0;
}

}  // namespace mlx_lm::serve
