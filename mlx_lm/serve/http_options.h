// Where the server listens, who may ask, and what it puts up with.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "mlx_lm/serve/http.h"

namespace mlx_lm::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";            // an address or a name
  int port = 8080;                           // 0: any that is free
  std::vector<std::string> api_keys;         // one of which a request must give; none: no key is needed
  std::vector<std::string> allowed_origins;  // of web pages that may ask: "https://example.org", or "*" for any
  std::string tls_certificate, tls_key;      // PEM files, the certificate with its chain; both or none
  int threads = 2;                           // that read, write and call the handler

  // Limits in bytes, of one connection.
  size_t header_bytes = size_t(16) << 10;
  size_t body_bytes = size_t(32) << 20;
  size_t ahead_bytes = size_t(64) << 10;  // of the next requests, read while an answer is awaited
  size_t unread_bytes = size_t(4) << 20;  // of a streamed answer, waiting for a client that reads slowly
  int connections = 512;

  // Times. What takes longer ends the connection.
  std::chrono::milliseconds header_time{10'000};  // for a request's header, and for TLS's greeting
  std::chrono::milliseconds body_stall{30'000};   // while no byte of a body comes
  std::chrono::milliseconds body_time{300'000};   // for a body
  std::chrono::milliseconds idle_time{60'000};    // between an answer and the next request
  std::chrono::milliseconds write_stall{30'000};  // while the client takes no byte of an answer

  // Told of every answer when it has been written: status (499: the client went before its answer was complete),
  // seconds since the request's header was read, bytes of the answer's body. The request's fields are empty when they
  // could not be read. Called on a thread of the server; must not throw.
  std::function<void(const HttpRequest&, int status, double seconds, size_t bytes)> on_answer;

  // Errors: RequestError that names the option.
  void validate() const;
};

}  // namespace mlx_lm::serve
