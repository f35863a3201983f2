// Answers as bytes.
#pragma once

#include <string>
#include <string_view>

#include "mlx_lm/serve/api_error.h"
#include "mlx_lm/serve/http.h"

namespace mlx_lm::serve {

// The error's status and body, with Retry-After where it has one.
HttpAnswer error_answer(const ApiError& error);

// For errors: what a client sent, short and without control characters.
std::string printable(std::string_view text);

// How the end of an answer's body is told.
enum class BodyEnd {
  none,    // there is no body: 204, 304
  length,  // Content-Length
  chunks,  // the last, empty chunk
  close,   // the connection's end, for HTTP/1.0
};

// The status line and headers, up to the empty line. more: headers besides the answer's own.
std::string answer_head(const HttpAnswer& answer, const std::string& id, const HttpHeaders& more, BodyEnd end,
                        bool keep_alive, bool is_http_10);

// One chunk of Transfer-Encoding: chunked. Empty for an empty piece, which would end the body.
std::string chunk(std::string_view piece);

// 32 random hexadecimal digits.
std::string new_request_id();

}  // namespace mlx_lm::serve
