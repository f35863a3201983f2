// The whole server and a client of it, for tests.
#pragma once

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "mlx_lm/serve/fields.h"
#include "mlx_lm/serve/server.h"

namespace mlx_lm::serve {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using json = Json;

struct Reply {
  int status;
  std::string text;
  http::fields headers;
  json body() const { return json::parse(text); }
};

inline Reply send_to(int port, http::verb verb, const std::string& path, const std::string& body = {}) {
  asio::io_context context;
  asio::ip::tcp::socket socket(context);
  socket.connect({asio::ip::make_address("127.0.0.1"), static_cast<unsigned short>(port)});
  http::request<http::string_body> request(verb, path, 11);
  request.set(http::field::host, "127.0.0.1");
  request.body() = body;
  request.prepare_payload();
  http::write(socket, request);
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.skip(verb == http::verb::head);
  http::read(socket, buffer, parser);
  auto response = parser.release();
  return {int(response.result_int()), response.body(), response.base()};
}

// The events of a stream, each with the line before it. An event's own name is its type.
inline std::vector<json> named_events(const Reply& reply) {
  std::vector<json> events;
  for (size_t at = 0; at < reply.text.size();) {
    const auto end = reply.text.find("\n\n", at);
    const auto event = reply.text.substr(at, end - at);
    at = end + 2;
    if (event.starts_with(":")) continue;
    const auto line = event.find('\n');
    EXPECT_EQ(event.substr(line + 1, 6), "data: ") << event;
    events.push_back(json::parse(event.substr(line + 7)));
    EXPECT_EQ(event.substr(0, line), "event: " + events.back()["type"].get<std::string>());
  }
  return events;
}

class RunningServer {
 public:
  explicit RunningServer(ServerOptions options) {
    options.http.port = 0;
    server_ = std::make_unique<Server>(std::move(options));
    thread_ = std::thread([this] { server_->run(); });
  }
  ~RunningServer() {
    server_->stop(std::chrono::seconds(5));
    thread_.join();
  }

  const std::string& model_id() const { return server_->model_id(); }
  Reply send(http::verb verb, const std::string& path, const std::string& body = {}) const {
    return send_to(server_->port(), verb, path, body);
  }
  Reply post(const std::string& path, const json& body) const { return send(http::verb::post, path, body.dump()); }

 private:
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

// With the default model, or one by its path.
inline ServerOptions options_of(const std::filesystem::path& model = default_model_path()) {
  ServerOptions options;
  options.models.model = model.string();
  return options;
}

class DefaultServer : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<RunningServer>(options_of()); }
  static void TearDownTestSuite() { server_.reset(); }

  static Reply send(http::verb verb, const std::string& path, const std::string& body = {}) {
    return server_->send(verb, path, body);
  }
  static Reply get(const std::string& path) { return send(http::verb::get, path); }
  static Reply post(const std::string& path, const json& body) { return server_->post(path, body); }

  static inline std::unique_ptr<RunningServer> server_;
};

}  // namespace mlx_lm::serve
