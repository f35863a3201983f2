#include "mlx_lm/serve/http_connection.h"

#include <algorithm>

#include "mlx_lm/base/error.h"

namespace mlx_lm::serve {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

// How long, and for how many bytes, a client that has been told that the connection ends is listened to.
constexpr std::chrono::seconds kLingerTime{2};
constexpr size_t kLingerBytes = size_t(1) << 20;

bool has_no_body(int status) { return status < 200 || status == 204 || status == 304; }

}  // namespace

HttpContext::HttpContext(HttpOptions options, HttpHandler handler)
    : options(std::move(options)), guard(this->options), handler(std::move(handler)) {}

void HttpContext::remove(const std::shared_ptr<HttpConnection>& connection) {
  std::lock_guard lock(mutex);
  if (connections.erase(connection) != 0 && connections.empty() && on_empty) on_empty();
}

HttpConnection::HttpConnection(std::shared_ptr<HttpContext> context, HttpStream::Socket socket)
    : context_(std::move(context)),
      stream_(std::move(socket), context_->tls ? &*context_->tls : nullptr),
      reader_(context_->options),
      read_deadline_(stream_.socket().get_executor()),
      write_deadline_(stream_.socket().get_executor()) {}

void HttpConnection::start(bool refuses) {
  error_code ignored;
  stream_.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  stream_.socket().set_option(asio::socket_base::keep_alive(true), ignored);  // notices clients that vanished
  times_header_ = true;
  read_until(Clock::now() + context_->options.header_time);
  if (!stream_.has_tls()) return greet(refuses);
  stream_.handshake([self = shared_from_this(), refuses](error_code error) {
    if (self->closed_) return;
    if (error) return self->close();
    self->greet(refuses);
  });
}

void HttpConnection::greet(bool refuses) {
  if (!refuses) return advance();
  ApiError busy(503, fmt::format("server: expected at most {} connections, found more", context_->options.connections));
  busy.retry_after = 1;
  reader_.request().id = new_request_id();
  reject(busy);
}

void HttpConnection::drain() {
  if (phase_ == Phase::reading) return close();
  ends_ = true;
}

void HttpConnection::cut() { close(); }

// --- Times

void HttpConnection::watch(Deadline& deadline, Clock::time_point due, void (HttpConnection::*when_due)()) {
  deadline.due = due;
  if (!deadline.waits_until || *deadline.waits_until > due) wait(deadline, when_due);
}

void HttpConnection::wait(Deadline& deadline, void (HttpConnection::*when_due)()) {
  deadline.waits_until = deadline.due;
  deadline.timer.expires_at(*deadline.due);
  deadline.timer.async_wait([self = shared_from_this(), &deadline, when_due](error_code error) {
    if (error || self->closed_) return;
    deadline.waits_until.reset();
    if (!deadline.due) return;
    if (Clock::now() < *deadline.due) return self->wait(deadline, when_due);
    deadline.due.reset();
    (self.get()->*when_due)();
  });
}

void HttpConnection::on_slow_read() {
  if (phase_ == Phase::lingering || (phase_ == Phase::reading && !reader_.has_started())) return close();
  if (phase_ != Phase::reading) return;
  reject(ApiError(408, reader_.reads_body() ? "body: expected all of it in time, found a part"
                                            : "header: expected all of it in time, found a part"));
}

// --- Reading

void HttpConnection::read_on() {
  const bool is_ahead = phase_ != Phase::reading && phase_ != Phase::lingering;
  if (closed_ || is_reading_ || read_closed_) return;
  if (is_ahead && reader_.buffered() >= context_->options.ahead_bytes) return;
  is_reading_ = true;
  auto handler = [self = shared_from_this()](error_code error, size_t bytes) { self->on_read(error, bytes); };
  if (tls_ended_) {
    stream_.socket().async_read_some(asio::buffer(input_), std::move(handler));
  } else {
    stream_.read_some(asio::buffer(input_), std::move(handler));
  }
}

void HttpConnection::on_read(error_code error, size_t bytes) {
  is_reading_ = false;
  if (closed_) return;
  if (phase_ == Phase::lingering) {
    if (stream_.has_tls() && !tls_ended_) return end_tls();
    lingered_ += bytes;
    return error || lingered_ > kLingerBytes ? close() : read_on();
  }
  if (error) {
    read_closed_ = true;
    if (phase_ != Phase::answered) return close();
    ends_ = true;  // a client that closed its side may still read
    return;
  }
  reader_.add({input_.data(), bytes});
  if (phase_ == Phase::reading) {
    advance();
  } else {
    read_on();
  }
}

void HttpConnection::advance() {
  try {
    while (phase_ == Phase::reading) {
      switch (reader_.step()) {
        case HttpReader::Step::more:
          if (reader_.reads_body()) {
            read_until(std::min(Clock::now() + context_->options.body_stall, body_due_));
          } else if (reader_.has_started() && !times_header_) {
            times_header_ = true;
            read_until(Clock::now() + context_->options.header_time);
          }
          return read_on();
        case HttpReader::Step::header:
          begin_request();
          break;
        case HttpReader::Step::body:
          handle();
          break;
      }
    }
    read_on();  // so that a client that goes is noticed
  } catch (const ApiError& error) {
    reject(error);
  } catch (const std::exception&) {  // out of memory
    close();
  }
}

void HttpConnection::begin_request() {
  auto& request = reader_.request();
  ++number_;
  since_ = Clock::now();
  is_http_10_ = reader_.is_http_10();
  is_head_ = request.method == "HEAD";
  ends_ = !reader_.keep_alive();
  if (const auto refusal = context_->guard.check(request)) {
    ends_ |= reader_.has_body();
    request_ = std::make_shared<const HttpRequest>(std::move(request));
    return answer_whole(*refusal);
  }
  if (is_head_) request.method = "GET";
  if (!reader_.has_body()) return;
  body_due_ = since_ + context_->options.body_time;
  if (reader_.wants_continue() && reader_.buffered() == 0) put("HTTP/1.1 100 Continue\r\n\r\n");
}

void HttpConnection::handle() {
  phase_ = Phase::handling;
  read_deadline_.due.reset();
  request_ = std::make_shared<const HttpRequest>(std::move(reader_.request()));
  signal_ = std::make_shared<GoneSignal>();
  const auto exchange = std::make_shared<ConnectionExchange>(request_, signal_, weak_from_this(), number_);
  // Through the exchange, so that it comes after what the handler said before it threw.
  try {
    context_->handler(exchange);
  } catch (const ApiError& error) {
    exchange->send(error_answer(error));
  } catch (const RequestError& error) {
    exchange->send(error_answer(ApiError(400, error.what())));
  } catch (const std::exception& error) {
    exchange->send(error_answer(ApiError(500, fmt::format("{} (request {})", error.what(), request_->id))));
  }
}

void HttpConnection::reject(const ApiError& error) {
  if (!reader_.reads_body()) {
    since_ = Clock::now();
    is_http_10_ = reader_.is_http_10();
    is_head_ = reader_.request().method == "HEAD";
  }
  ++number_;
  ends_ = true;
  request_ = std::make_shared<const HttpRequest>(std::move(reader_.request()));
  answer_whole(error_answer(error));
}

// --- Answers

void HttpConnection::send(size_t number, HttpAnswer answer) {
  if (is_current(number, Phase::handling)) return answer_whole(answer);
  if (!is_current(number, Phase::streaming)) return;
  // An error after the answer had begun: all that can be said is that it is not complete.
  log(answer.status);
  close();
}

void HttpConnection::begin(size_t number, HttpAnswer answer) {
  if (!is_current(number, Phase::handling)) return;
  if (has_no_body(answer.status)) return answer_whole(answer);
  body_end_ = is_http_10_ ? BodyEnd::close : BodyEnd::chunks;
  ends_ |= is_http_10_;
  auto bytes = head(answer, body_end_);
  if (is_head_) {
    signal_->fire();  // nobody will read what follows
    phase_ = Phase::answered;
  } else {
    phase_ = Phase::streaming;
    bytes += encoded(std::move(answer.body));
  }
  put(std::move(bytes));
}

void HttpConnection::write(size_t number, std::string piece) {
  if (!is_current(number, Phase::streaming)) return;
  if (output_.size() - written_ + next_output_.size() > context_->options.unread_bytes) return close();
  if (!piece.empty()) put(encoded(std::move(piece)));
}

void HttpConnection::end(size_t number) {
  if (!is_current(number, Phase::streaming)) return;
  phase_ = Phase::answered;
  put(body_end_ == BodyEnd::chunks ? "0\r\n\r\n" : "");
}

void HttpConnection::let_go(size_t number) {
  const auto error = [&] {
    return ApiError(500, fmt::format("server: no answer was made (request {})", request_->id));
  };
  if (number == number_ && (phase_ == Phase::handling || phase_ == Phase::streaming)) {
    send(number, error_answer(error()));
  }
}

std::string HttpConnection::head(const HttpAnswer& answer, BodyEnd end) {
  status_ = answer.status;
  return answer_head(answer, request_->id, context_->guard.cors_headers(*request_), end, !ends_, is_http_10_);
}

std::string HttpConnection::encoded(std::string piece) {
  body_bytes_ += piece.size();
  return body_end_ == BodyEnd::chunks ? chunk(piece) : std::move(piece);
}

void HttpConnection::answer_whole(const HttpAnswer& answer) {
  if (signal_) signal_->disarm();
  phase_ = Phase::answered;
  read_deadline_.due.reset();
  const auto end = has_no_body(answer.status) ? BodyEnd::none : BodyEnd::length;
  auto bytes = head(answer, end);
  if (end == BodyEnd::length && !is_head_) {
    body_bytes_ = answer.body.size();
    bytes += answer.body;
  }
  put(std::move(bytes));
  read_on();
}

// --- Writing

void HttpConnection::put(std::string bytes) {
  if (next_output_.empty()) {
    next_output_ = std::move(bytes);
  } else {
    next_output_ += bytes;
  }
  if (output_.empty()) write_on();
}

void HttpConnection::write_on() {
  if (output_.empty()) {
    output_ = std::exchange(next_output_, {});
    written_ = 0;
  }
  if (output_.empty()) return on_flushed();
  watch(write_deadline_, Clock::now() + context_->options.write_stall, &HttpConnection::close);
  stream_.write_some(asio::buffer(output_.data() + written_, output_.size() - written_),
                     [self = shared_from_this()](error_code error, size_t bytes) { self->on_written(error, bytes); });
}

void HttpConnection::on_written(error_code error, size_t bytes) {
  if (closed_) return;
  if (error) return close();
  written_ += bytes;
  if (written_ == output_.size()) output_.clear();
  write_on();
}

void HttpConnection::on_flushed() {
  write_deadline_.due.reset();
  if (phase_ != Phase::answered) return;
  log(status_);
  signal_.reset();
  body_bytes_ = 0;
  if (ends_) return linger();
  is_head_ = false;
  times_header_ = false;
  reader_.next();
  phase_ = Phase::reading;
  read_until(Clock::now() + context_->options.idle_time);
  advance();
}

void HttpConnection::log(int status) {
  const auto request = std::exchange(request_, nullptr);
  if (!request || !context_->options.on_answer) return;
  const std::chrono::duration<double> seconds = Clock::now() - since_;
  context_->options.on_answer(*request, status, seconds.count(), body_bytes_);
}

// --- The end

void HttpConnection::linger() {
  phase_ = Phase::lingering;
  if (read_closed_) return close();
  read_until(Clock::now() + kLingerTime);
  if (!stream_.has_tls()) return end_sending();
  if (!is_reading_) return end_tls();
  error_code ignored;
  stream_.socket().cancel(ignored);  // TLS ends when nothing reads any more
}

void HttpConnection::end_tls() {
  stream_.end_tls([self = shared_from_this()](error_code) {
    if (self->closed_) return;
    self->tls_ended_ = true;
    self->end_sending();
  });
}

void HttpConnection::end_sending() {
  error_code ignored;
  stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
  read_on();
}

void HttpConnection::close() {
  if (closed_) return;
  closed_ = true;
  const auto self = shared_from_this();
  read_deadline_.timer.cancel();
  write_deadline_.timer.cancel();
  error_code ignored;
  stream_.socket().close(ignored);
  if (signal_) signal_->fire();
  log(499);
  context_->remove(self);
}

}  // namespace mlx_lm::serve
