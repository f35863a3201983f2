// Requests out of a connection's bytes; knows no sockets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "mlx_lm/serve/http.h"
#include "mlx_lm/serve/http_chunks.h"
#include "mlx_lm/serve/http_options.h"

namespace mlx_lm::serve {

// Strict where two servers could disagree about where a request ends (request smuggling): line ends other than CRLF,
// folded lines, several lengths or a length and chunks are errors. Trailers of chunked bodies are dropped.
class HttpReader {
 public:
  explicit HttpReader(const HttpOptions& options) : options_(options) {}

  void add(std::string_view bytes);

  enum class Step {
    more,    // needs more bytes
    header,  // request() is there but for its body
    body,    // request() is complete; next() begins another
  };
  // Goes on to where something is to be done. Errors: ApiError, after which the bytes that follow mean nothing;
  // request() has then what could be read, and an id in any case.
  Step step();
  void next();

  // Some byte of the request has come.
  bool has_started() const { return state_ != State::header || start_ < buffer_.size(); }
  bool reads_body() const { return state_ == State::body; }
  // Bytes that have come and are not read yet.
  size_t buffered() const { return buffer_.size() - start_; }

  HttpRequest& request() { return request_; }
  // Of request(), from its header on.
  bool is_http_10() const { return is_http_10_; }
  bool keep_alive() const { return keep_alive_; }
  bool has_body() const { return has_body_; }
  bool wants_continue() const { return wants_continue_; }

 private:
  enum class State { header, body };

  bool find_header();
  void read_header();
  template <class Header>
  void check_header(const Header& header);
  void read_target(std::string_view target);

  const HttpOptions& options_;
  std::string buffer_;
  size_t start_ = 0;    // of the bytes that are not read yet
  size_t scanned_ = 0;  // bytes from there that the header's end is not among
  std::optional<ChunkReader> chunks_;
  uint64_t length_ = 0;  // of a body that is not in chunks
  State state_ = State::header;
  HttpRequest request_;
  bool is_http_10_ = false, keep_alive_ = false, has_body_ = false, wants_continue_ = false;
};

}  // namespace mlx_lm::serve
