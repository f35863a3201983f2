// A server on a free port and a client of it, for tests.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "mlx_lm/serve/http_server.h"

namespace mlx_lm::serve {

// Tells what it was asked.
inline void echo(std::shared_ptr<HttpExchange> exchange) {
  const auto& request = exchange->request();
  const nlohmann::json body = {{"method", request.method}, {"path", request.path},       {"query", request.query},
                               {"body", request.body},     {"headers", request.headers}, {"id", request.id}};
  exchange->send({.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)});
}

inline HttpOptions on_free_port(HttpOptions options = {}) {
  options.port = 0;
  return options;
}

class TestServer {
 public:
  explicit TestServer(HttpOptions options = {}, HttpHandler handler = echo)
      : server_(std::make_unique<HttpServer>(on_free_port(std::move(options)), std::move(handler))),
        thread_([this] { server_->run(); }) {}
  ~TestServer() { end(); }

  HttpServer* operator->() { return server_.get(); }
  unsigned short port() const { return static_cast<unsigned short>(server_->port()); }
  // Until run() has returned by itself.
  void join() { thread_.join(); }
  // Afterwards there is no server.
  void end() {
    if (!server_) return;
    server_->stop(std::chrono::seconds(0));
    if (thread_.joinable()) thread_.join();
    server_.reset();
  }

 private:
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

// A handler that hands its exchanges to the test.
struct Held {
  std::promise<std::shared_ptr<HttpExchange>> promise;
  HttpHandler handler() {
    return [this](std::shared_ptr<HttpExchange> exchange) { promise.set_value(std::move(exchange)); };
  }
  std::shared_ptr<HttpExchange> get() { return promise.get_future().get(); }
};

// Time limits that no test waits for.
inline HttpOptions patient() {
  HttpOptions options;
  options.header_time = options.body_stall = options.body_time = options.idle_time = options.write_stall =
      std::chrono::hours(1);
  return options;
}

using TestAnswer = boost::beast::http::response<boost::beast::http::string_body>;

inline nlohmann::json json_of(const TestAnswer& answer) { return nlohmann::json::parse(answer.body()); }
inline std::string field(const TestAnswer& answer, const char* name) { return std::string(answer[name]); }

class TestClient {
 public:
  explicit TestClient(const TestServer& server) : socket_(io_) {
    socket_.connect({boost::asio::ip::make_address("127.0.0.1"), server.port()});
    socket_.set_option(boost::asio::ip::tcp::no_delay(true));
  }

  void send(const std::string& bytes) { boost::asio::write(socket_, boost::asio::buffer(bytes)); }
  // The next answer, complete. Throws when there is none.
  TestAnswer read(bool to_head = false) {
    boost::beast::http::response_parser<boost::beast::http::string_body> parser;
    parser.body_limit(boost::none);
    parser.skip(to_head);
    boost::beast::http::read(socket_, buffer_, parser);
    return parser.release();
  }
  TestAnswer ask(const std::string& bytes) {
    send(bytes);
    return read();
  }
  // What comes until the server closes the connection.
  std::string rest() {
    std::string text(static_cast<const char*>(buffer_.data().data()), buffer_.size());
    boost::system::error_code error;
    boost::asio::read(socket_, boost::asio::dynamic_buffer(text), error);
    return text;
  }
  // So many bytes as they are.
  std::string take(size_t bytes) {
    std::string text(bytes, '\0');
    boost::asio::read(socket_, boost::asio::buffer(text));
    return text;
  }
  boost::asio::ip::tcp::socket& socket() { return socket_; }

 private:
  boost::asio::io_context io_;
  boost::asio::ip::tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
};

inline const std::string kGet = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";

inline std::string post(const std::string& body, const std::string& headers = {}) {
  return "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         headers + "\r\n" + body;
}

}  // namespace mlx_lm::serve
