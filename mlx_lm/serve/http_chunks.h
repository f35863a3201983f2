// Bodies with Transfer-Encoding: chunked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mlx_lm::serve {

// Strict: line ends are CRLF, and sizes are hexadecimal digits alone. Extensions and trailers are dropped. (Beast's own
// runs into an assertion when the last chunk comes in small pieces.)
class ChunkReader {
 public:
  // line_limit: bytes of a chunk's first line, and of all trailers.
  ChunkReader(size_t line_limit, size_t body_limit) : line_limit_(line_limit), body_limit_(body_limit) {}

  // Adds what the bytes hold to the body; how many of them it read, all unless the body is complete. Errors: ApiError
  // with status 400 or 413.
  size_t read(std::string_view bytes, std::string& body);
  bool is_complete() const { return state_ == State::complete; }

 private:
  enum class State { size, data, data_end, trailer, complete };

  bool add_to_line(char c);
  void begin_chunk(size_t body_size);
  void end_line(size_t body_size);

  const size_t line_limit_, body_limit_;
  State state_ = State::size;
  std::string line_;
  size_t line_bytes_ = 0;
  uint64_t left_ = 0;  // bytes of the chunk
};

}  // namespace mlx_lm::serve
