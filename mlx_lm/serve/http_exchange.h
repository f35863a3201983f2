// The handler's end of a connection.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "mlx_lm/serve/http.h"

namespace mlx_lm::serve {

class HttpConnection;

// Tells an exchange that its client has gone; at most once, and nothing after disarm(). Threads: any.
class GoneSignal {
 public:
  void on_gone(std::function<void()> callback);
  void fire();
  void disarm();

 private:
  std::vector<std::function<void()>> leave(bool gone);

  enum class State { armed, gone, disarmed };
  std::mutex mutex_;
  State state_ = State::armed;
  std::vector<std::function<void()>> callbacks_;
};

// Passes on what the handler says to the connection's strand. May outlive the connection and the server.
class ConnectionExchange : public HttpExchange {
 public:
  // number: of the request on its connection.
  ConnectionExchange(std::shared_ptr<const HttpRequest> request, std::shared_ptr<GoneSignal> signal,
                     std::weak_ptr<HttpConnection> connection, size_t number)
      : request_(std::move(request)), signal_(std::move(signal)), connection_(std::move(connection)), number_(number) {}
  ~ConnectionExchange() override;

  const HttpRequest& request() const override { return *request_; }
  void send(HttpAnswer answer) override;
  void begin(HttpAnswer answer) override;
  void write(std::string piece) override;
  void end() override;
  void on_gone(std::function<void()> callback) override { signal_->on_gone(std::move(callback)); }

 private:
  const std::shared_ptr<const HttpRequest> request_;
  const std::shared_ptr<GoneSignal> signal_;
  const std::weak_ptr<HttpConnection> connection_;
  const size_t number_;
};

}  // namespace mlx_lm::serve
