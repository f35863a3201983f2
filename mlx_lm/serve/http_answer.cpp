#include "mlx_lm/serve/http_answer.h"

#include <openssl/rand.h>

#include <algorithm>
#include <boost/beast/http/status.hpp>
#include <ctime>
#include <iterator>

#include <fmt/chrono.h>

namespace mlx_lm::serve {

namespace {

// A line end in a value would begin a header of somebody else's choice.
void add_header(std::string& head, std::string_view name, std::string_view value) {
  head.append(name).append(": ");
  std::replace_copy_if(
      value.begin(), value.end(), std::back_inserter(head),
      [](unsigned char c) { return (c < ' ' && c != '\t') || c == 0x7f; }, ' ');
  head.append("\r\n");
}

}  // namespace

HttpAnswer error_answer(const ApiError& error) {
  // What a client sent may be no UTF-8.
  HttpAnswer answer{.status = error.status(),
                    .body = error.body().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
  if (error.retry_after) answer.headers.emplace_back("Retry-After", std::to_string(*error.retry_after));
  return answer;
}

std::string printable(std::string_view text) {
  constexpr size_t kMost = 80;
  std::string short_text(text.substr(0, kMost));
  for (char& c : short_text) {
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return text.size() > kMost ? short_text + "..." : short_text;
}

std::string answer_head(const HttpAnswer& answer, const std::string& id, const HttpHeaders& more, BodyEnd end,
                        bool keep_alive, bool is_http_10) {
  const auto reason = boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(answer.status));
  auto head = fmt::format("HTTP/1.1 {} {}\r\nServer: mlx_lm\r\nDate: {:%a, %d %b %Y %H:%M:%S} GMT\r\n", answer.status,
                          std::string_view(reason), fmt::gmtime(std::time(nullptr)));
  add_header(head, "x-request-id", id);
  if (!answer.content_type.empty() && end != BodyEnd::none) add_header(head, "Content-Type", answer.content_type);
  for (const auto& [name, value] : answer.headers) add_header(head, name, value);
  for (const auto& [name, value] : more) add_header(head, name, value);
  if (end == BodyEnd::length) add_header(head, "Content-Length", std::to_string(answer.body.size()));
  if (end == BodyEnd::chunks) add_header(head, "Transfer-Encoding", "chunked");
  if (!keep_alive) {
    add_header(head, "Connection", "close");
  } else if (is_http_10) {
    add_header(head, "Connection", "keep-alive");
  }
  return head + "\r\n";
}

std::string chunk(std::string_view piece) {
  return piece.empty() ? std::string() : fmt::format("{:x}\r\n{}\r\n", piece.size(), piece);
}

std::string new_request_id() {
  unsigned char bytes[16];
  if (RAND_bytes(bytes, sizeof bytes) != 1) fail<Error>("[server] request id: expected random bytes, found none");
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

}  // namespace mlx_lm::serve
