#include "mlx_lm/serve/http_exchange.h"

#include <utility>

#include "mlx_lm/serve/http_connection.h"

namespace mlx_lm::serve {

void GoneSignal::on_gone(std::function<void()> callback) {
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::disarmed) return;
    if (state_ == State::armed) {
      callbacks_.push_back(std::move(callback));
      return;
    }
  }
  callback();
}

std::vector<std::function<void()>> GoneSignal::leave(bool gone) {
  std::lock_guard lock(mutex_);
  if (state_ == State::armed) state_ = gone ? State::gone : State::disarmed;
  return std::exchange(callbacks_, {});
}

void GoneSignal::fire() {
  for (const auto& callback : leave(true)) callback();
}

// What the callbacks hold goes outside of the lock.
void GoneSignal::disarm() { leave(false); }

ConnectionExchange::~ConnectionExchange() { HttpConnection::post(connection_, &HttpConnection::let_go, number_); }

void ConnectionExchange::send(HttpAnswer answer) {
  signal_->disarm();
  HttpConnection::post(connection_, &HttpConnection::send, number_, std::move(answer));
}

void ConnectionExchange::begin(HttpAnswer answer) {
  HttpConnection::post(connection_, &HttpConnection::begin, number_, std::move(answer));
}

void ConnectionExchange::write(std::string piece) {
  HttpConnection::post(connection_, &HttpConnection::write, number_, std::move(piece));
}

void ConnectionExchange::end() {
  signal_->disarm();
  HttpConnection::post(connection_, &HttpConnection::end, number_);
}

}  // namespace mlx_lm::serve
