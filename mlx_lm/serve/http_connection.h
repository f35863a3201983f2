// One client's connection: reads its requests, has them handled one after another, writes the answers.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "mlx_lm/serve/http.h"
#include "mlx_lm/serve/http_answer.h"
#include "mlx_lm/serve/http_exchange.h"
#include "mlx_lm/serve/http_guard.h"
#include "mlx_lm/serve/http_options.h"
#include "mlx_lm/serve/http_reader.h"
#include "mlx_lm/serve/http_stream.h"

namespace mlx_lm::serve {

class HttpConnection;

// What all connections of a server share. Exchanges can keep it alive longer than the server.
struct HttpContext {
  HttpContext(HttpOptions options, HttpHandler handler);

  // Called when a connection is done. Threads: any.
  void remove(const std::shared_ptr<HttpConnection>& connection);

  const HttpOptions options;
  const HttpGuard guard;
  const HttpHandler handler;
  boost::asio::io_context io;
  std::optional<boost::asio::ssl::context> tls;

  std::mutex mutex;  // of what follows
  std::set<std::shared_ptr<HttpConnection>> connections;
  std::function<void()> on_empty;  // when the last of them has been removed
};

// Threads: its strand, which the socket's executor must be, unless said otherwise.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(std::shared_ptr<HttpContext> context, HttpStream::Socket socket);

  // refuses: answers 503 to whatever comes.
  void start(bool refuses);
  // Ends when the answer under way, if there is one, is complete.
  void drain();
  void cut();

  // Calls one of the following for the request of that number, on the strand, if the connection is still there.
  // Threads: any.
  template <class... Args>
  static void post(const std::weak_ptr<HttpConnection>& connection, void (HttpConnection::*call)(Args...),
                   std::type_identity_t<Args>... args) {
    if (const auto strong = connection.lock()) {
      // Weakly: what is queued when nothing runs any more must not keep what the queue belongs to.
      boost::asio::post(strong->stream_.socket().get_executor(),
                        [weak = connection, call, ... args = std::move(args)]() mutable {
                          const auto self = weak.lock();
                          if (self && !self->closed_) (self.get()->*call)(std::move(args)...);
                        });
    }
  }
  void send(size_t number, HttpAnswer answer);
  void begin(size_t number, HttpAnswer answer);
  void write(size_t number, std::string piece);
  void end(size_t number);
  void let_go(size_t number);  // nothing more comes

 private:
  enum class Phase {
    reading,    // a request
    handling,   // the answer is awaited
    streaming,  // a part of it has been given
    answered,   // it is complete, and perhaps not written yet
    lingering,  // our end is closed; reads on for a while, since to close would make the client lose the answer
  };

  using Clock = std::chrono::steady_clock;

  // A time that moves with every piece of an answer: the timer is left alone, and looks when it expires.
  struct Deadline {
    explicit Deadline(const boost::asio::any_io_executor& executor) : timer(executor) {}

    boost::asio::steady_timer timer;
    std::optional<Clock::time_point> due;
    std::optional<Clock::time_point> waits_until;
  };

  void watch(Deadline& deadline, Clock::time_point due, void (HttpConnection::*when_due)());
  void wait(Deadline& deadline, void (HttpConnection::*when_due)());
  void read_until(Clock::time_point due) { watch(read_deadline_, due, &HttpConnection::on_slow_read); }
  void read_on();
  void on_read(boost::system::error_code error, size_t bytes);
  void advance();
  void greet(bool refuses);
  void begin_request();
  void handle();
  void reject(const ApiError& error);
  void on_slow_read();
  bool is_current(size_t number, Phase phase) const { return number == number_ && phase_ == phase; }
  std::string head(const HttpAnswer& answer, BodyEnd end);
  void answer_whole(const HttpAnswer& answer);
  std::string encoded(std::string piece);
  void put(std::string bytes);
  void write_on();
  void on_written(boost::system::error_code error, size_t bytes);
  void on_flushed();
  void log(int status);
  void linger();
  void end_tls();
  void end_sending();
  void close();

  const std::shared_ptr<HttpContext> context_;
  HttpStream stream_;
  HttpReader reader_;
  std::array<char, 16384> input_;
  Deadline read_deadline_, write_deadline_;
  Phase phase_ = Phase::reading;
  bool is_reading_ = false, read_closed_ = false, tls_ended_ = false;
  bool times_header_ = false;
  Clock::time_point body_due_;
  bool ends_ = false;  // after this answer
  bool closed_ = false;
  size_t lingered_ = 0;  // bytes

  // The request being answered.
  size_t number_ = 0;
  std::shared_ptr<const HttpRequest> request_;
  std::shared_ptr<GoneSignal> signal_;
  Clock::time_point since_;
  bool is_head_ = false, is_http_10_ = false;
  BodyEnd body_end_ = BodyEnd::length;
  int status_ = 0;
  size_t body_bytes_ = 0;  // of its answer

  std::string output_, next_output_;  // being written, and to be written then
  size_t written_ = 0;                // of output_
};

}  // namespace mlx_lm::serve
