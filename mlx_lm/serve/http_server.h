// The server's listener: HTTP/1.1 and 1.0, over TLS or not.
#pragma once

#include <chrono>
#include <memory>

#include "mlx_lm/serve/http.h"
#include "mlx_lm/serve/http_options.h"

namespace mlx_lm::serve {

// What it refuses by itself, with OpenAI's form of errors: what is no proper HTTP, is too large or too slow
// (HttpReader), and what comes without a key or from a page that may not ask (HttpGuard).
class HttpServer {
 public:
  // Listens, but takes no connection before run(). Errors: RequestError for options, for an address that cannot be
  // had and for certificates that cannot be read.
  HttpServer(HttpOptions options, HttpHandler handler);
  // run() must have returned.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  // Serves until stop(); once.
  void run();
  // No more connections or requests are taken, idle connections are closed, and run() returns when the answers under
  // way are complete; those that are not within the grace are cut. A second call may shorten the grace. Threads: any.
  void stop(std::chrono::milliseconds grace);

 private:
  class Listener;
  std::unique_ptr<Listener> listener_;
};

}  // namespace mlx_lm::serve
