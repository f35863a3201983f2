#include "mlx_lm/serve/http_connection.h"

#include <atomic>
#include <future>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/serve/http_client.h"

namespace mlx_lm::serve {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kSoon{50};

TEST(HttpConnection, AnswersRequestsOneAfterAnother) {
  TestServer server(patient());
  TestClient client(server);
  auto answer = client.ask(post("hello", "X-Request-Id: mine\r\n"));
  EXPECT_EQ(answer.result_int(), 200u);
  EXPECT_EQ(json_of(answer)["method"], "POST");
  EXPECT_EQ(json_of(answer)["body"], "hello");
  EXPECT_EQ(json_of(answer)["id"], "mine");
  EXPECT_EQ(field(answer, "x-request-id"), "mine");
  EXPECT_EQ(field(answer, "Server"), "mlx_lm");
  answer = client.ask("GET /a%20b?c=d HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(json_of(answer)["path"], "/a b");
  EXPECT_EQ(json_of(answer)["query"], "c=d");
  EXPECT_EQ(json_of(answer)["id"], field(answer, "x-request-id"));
  answer = client.ask(
      "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(json_of(answer)["body"], "abcde");
  EXPECT_FALSE(answer.keep_alive());
  EXPECT_EQ(client.rest(), "");
}

TEST(HttpConnection, ReadsByteAfterByte) {
  TestServer server(patient());
  TestClient client(server);
  for (const char c : post("hello")) client.send(std::string(1, c));
  EXPECT_EQ(json_of(client.read())["body"], "hello");
}

TEST(HttpConnection, AnswersPipelinedRequestsInOrder) {
  TestServer server(patient(), [](auto exchange) { std::thread([exchange] { echo(exchange); }).detach(); });
  TestClient client(server);
  std::string all;
  for (int i = 0; i < 50; ++i) all += post(std::to_string(i));
  client.send(all);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(json_of(client.read())["body"], std::to_string(i));
}

TEST(HttpConnection, KeepsWhatComesWhileAnAnswerIsAwaited) {
  auto options = patient();
  options.ahead_bytes = 100;  // less than what comes
  std::promise<std::shared_ptr<HttpExchange>> promise;
  TestServer server(options, [&](std::shared_ptr<HttpExchange> exchange) {
    if (exchange->request().body == "first") return promise.set_value(exchange);
    echo(exchange);
  });
  TestClient client(server);
  client.send(post("first"));
  const auto first = promise.get_future().get();
  const std::string large(100'000, 'x');
  client.send(post(large) + post("last"));
  first->send({.body = "\"ready\""});
  EXPECT_EQ(json_of(client.read()), "ready");
  EXPECT_EQ(json_of(client.read())["body"], large);
  EXPECT_EQ(json_of(client.read())["body"], "last");
}

TEST(HttpConnection, StreamsInChunks) {
  Held held;
  TestServer server(patient(), held.handler());
  TestClient client(server);
  client.send(kGet);
  const auto exchange = held.get();
  exchange->begin({.content_type = "text/event-stream", .body = "data: 1\n\n"});
  // Each piece is there before the next is made.
  std::string got;
  while (got.find("\r\n\r\n9\r\ndata: 1\n\n\r\n") == std::string::npos) got += client.take(1);
  EXPECT_NE(got.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_NE(got.find("Content-Type: text/event-stream\r\n"), std::string::npos);
  exchange->write("");
  exchange->write("data: 2\n\n");
  EXPECT_EQ(client.take(14), "9\r\ndata: 2\n\n\r\n");
  exchange->end();
  EXPECT_EQ(client.take(5), "0\r\n\r\n");
  exchange->write("late");
  exchange->end();
  exchange->send({});
  client.send("DELETE / HTTP/1.1\r\n\r\n");  // still in step
  EXPECT_EQ(client.read().result_int(), 400u);
}

TEST(HttpConnection, EndsStreamsForOldClientsByClosing) {
  TestServer server(patient(), [](auto exchange) {
    exchange->begin({.body = "a"});
    exchange->write("b");
    exchange->end();
  });
  TestClient client(server);
  client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const auto answer = client.rest();
  EXPECT_TRUE(answer.ends_with("Connection: close\r\n\r\nab")) << answer;
}

TEST(HttpConnection, KeepsOldClientsThatAskForIt) {
  TestServer server(patient());
  TestClient client(server);
  EXPECT_EQ(field(client.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), "Connection"), "keep-alive");
  EXPECT_EQ(field(client.ask("GET / HTTP/1.0\r\n\r\n"), "Connection"), "close");
  EXPECT_EQ(client.rest(), "");
}

TEST(HttpConnection, AnswersHeadWithoutABody) {
  TestServer server(patient(), [](auto exchange) {
    if (exchange->request().path == "/stream") {
      exchange->begin({.body = "x"});
      exchange->write("y");
      exchange->end();
    } else {
      exchange->send({.body = exchange->request().method});
    }
  });
  TestClient client(server);
  client.send("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(field(client.read(true), "Content-Length"), "3");  // of "GET"
  client.send("HEAD /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(field(client.read(true), "Transfer-Encoding"), "chunked");
  EXPECT_EQ(client.ask(kGet).body(), "GET");
}

TEST(HttpConnection, TellsTheClientToGoOn) {
  TestServer server(patient());
  TestClient client(server);
  auto request = post("hello", "Expect: 100-continue\r\n");
  request.resize(request.size() - 5);
  EXPECT_EQ(client.ask(request).result_int(), 100u);
  EXPECT_EQ(json_of(client.ask("hello"))["body"], "hello");
}

TEST(HttpConnection, RefusesALargeBodyUnread) {
  TestServer server(patient());
  TestClient client(server);
  constexpr size_t kSize = 100'000'000;
  const auto answer = client.ask("POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: " +
                                 std::to_string(kSize) + "\r\n\r\n");
  EXPECT_EQ(answer.result_int(), 413u);
  EXPECT_EQ(json_of(answer)["error"]["type"], "invalid_request_error");
  EXPECT_FALSE(answer.keep_alive());
  const std::string piece(1'000'000, 'x');
  size_t sent = 0;
  boost::system::error_code error;
  while (!error && sent < kSize) sent += boost::asio::write(client.socket(), boost::asio::buffer(piece), error);
  EXPECT_TRUE(error);
  EXPECT_LT(sent, kSize / 2);  // what the system's buffers took
}

TEST(HttpConnection, EndsAfterWhatItCouldNotRead) {
  TestServer server(patient());
  const std::pair<std::string, unsigned> cases[] = {
      {"hello\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 411},
      {"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n", 431},
      {"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: more\r\nContent-Length: 1\r\n\r\n", 417},
  };
  for (const auto& [bytes, status] : cases) {
    TestClient client(server);
    client.send(bytes);
    const auto answer = client.read();
    EXPECT_EQ(answer.result_int(), status) << bytes;
    EXPECT_TRUE(json_of(answer)["error"]["message"].is_string());
    EXPECT_EQ(field(answer, "x-request-id").size(), 32u);
    EXPECT_EQ(field(answer, "Connection"), "close");
    EXPECT_EQ(client.rest(), "") << bytes;
  }
}

TEST(HttpConnection, RefusesWhoMayNotAskBeforeTheBody) {
  auto options = patient();
  options.api_keys = {"key"};
  options.allowed_origins = {"https://good.example"};
  TestServer server(options);
  TestClient client(server);
  auto answer = client.ask("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://good.example\r\n\r\n");
  EXPECT_EQ(answer.result_int(), 401u);
  EXPECT_EQ(field(answer, "WWW-Authenticate"), "Bearer");
  EXPECT_EQ(field(answer, "Access-Control-Allow-Origin"), "https://good.example");
  EXPECT_EQ(client.ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").result_int(), 200u);
  answer = client.ask("OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://good.example\r\n\r\n");
  EXPECT_EQ(answer.result_int(), 204u);
  EXPECT_EQ(field(answer, "Content-Length"), "");
  EXPECT_EQ(field(answer, "Access-Control-Allow-Origin"), "https://good.example");
  EXPECT_EQ(client.ask(post("a", "Authorization: Bearer key\r\n")).result_int(), 200u);
  answer = client.ask("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_EQ(answer.result_int(), 401u);
  EXPECT_EQ(client.rest(), "");
}

TEST(HttpConnection, EndsSlowHeaders) {
  auto options = patient();
  options.header_time = kSoon;
  TestServer server(options);
  TestClient silent(server);
  EXPECT_EQ(silent.rest(), "");
  TestClient first(server);
  const auto answer = first.ask("GET / HTTP/1.1\r\nHost: loc");
  EXPECT_EQ(answer.result_int(), 408u);
  EXPECT_EQ(first.rest(), "");
}

TEST(HttpConnection, EndsSlowHeadersOfLaterRequests) {
  auto options = patient();
  options.header_time = milliseconds(2000);  // the first request must be there by then
  TestServer server(options);
  TestClient client(server);
  EXPECT_EQ(client.ask(kGet).result_int(), 200u);
  EXPECT_EQ(client.ask("GET / HTTP/1.1\r\nHost: loc").result_int(), 408u);
}

TEST(HttpConnection, EndsSlowBodies) {
  auto options = patient();
  options.body_stall = kSoon;
  TestServer stalled(options);
  EXPECT_EQ(TestClient(stalled).ask("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc").result_int(),
            408u);
  options.body_stall = std::chrono::hours(1);
  options.body_time = kSoon;
  TestServer capped(options);
  EXPECT_EQ(TestClient(capped).ask("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc").result_int(),
            408u);
}

TEST(HttpConnection, EndsIdleConnections) {
  auto options = patient();
  options.idle_time = kSoon;
  TestServer server(options);
  TestClient client(server);
  EXPECT_EQ(client.ask(kGet).result_int(), 200u);
  EXPECT_EQ(client.rest(), "");
}

TEST(HttpConnection, CutsAStreamThatIsNotRead) {
  auto options = patient();
  options.unread_bytes = 100'000;
  Held held;
  TestServer server(options, held.handler());
  TestClient client(server);
  client.send(kGet);
  const auto exchange = held.get();
  std::atomic<bool> gone = false;
  exchange->on_gone([&] { gone = true; });
  exchange->begin({});
  // The system's buffers take megabytes.
  for (int i = 0; i < 10'000 && !gone; ++i) exchange->write(std::string(100'000, 'x'));
  EXPECT_TRUE(gone);
}

TEST(HttpConnection, CutsAnAnswerThatIsNotRead) {
  auto options = patient();
  options.write_stall = kSoon;
  std::promise<int> status;
  options.on_answer = [&](const HttpRequest&, int s, double, size_t) { status.set_value(s); };
  TestServer server(options, [](auto exchange) { exchange->send({.body = std::string(50'000'000, 'x')}); });
  TestClient client(server);
  client.send(kGet);
  EXPECT_EQ(status.get_future().get(), 499);
}

TEST(HttpConnection, ReadsALargeAnswerToItsEnd) {
  auto options = patient();
  options.unread_bytes = 1000;  // of streams only
  const std::string large(20'000'000, 'x');
  TestServer server(options, [&](auto exchange) { exchange->send({.body = large}); });
  TestClient client(server);
  EXPECT_EQ(client.ask(kGet).body().size(), large.size());
}

TEST(HttpConnection, AnswersForAHandlerThatThrows) {
  TestServer server(patient(), [](auto exchange) {
    const auto& path = exchange->request().path;
    if (path == "/api") {
      ApiError error(429, "messages: too many", "messages", "busy");
      error.retry_after = 3;
      throw error;
    }
    if (path == "/request") fail<RequestError>("[sample] temp: expected 0 or more, found -1");
    if (path == "/begun") exchange->begin({.body = "x"});
    throw std::runtime_error("broken");
  });
  TestClient client(server);
  const auto get = [&](const std::string& path) {
    return client.ask("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: id7\r\n\r\n");
  };
  auto answer = get("/api");
  EXPECT_EQ(answer.result_int(), 429u);
  EXPECT_EQ(field(answer, "Retry-After"), "3");
  EXPECT_EQ(json_of(answer)["error"]["param"], "messages");
  EXPECT_EQ(json_of(answer)["error"]["code"], "busy");
  answer = get("/request");
  EXPECT_EQ(answer.result_int(), 400u);
  EXPECT_EQ(json_of(answer)["error"]["message"], "[sample] temp: expected 0 or more, found -1");
  answer = get("/other");
  EXPECT_EQ(answer.result_int(), 500u);
  EXPECT_EQ(json_of(answer)["error"]["message"], "broken (request id7)");
  EXPECT_THROW(get("/begun"), boost::system::system_error);  // cut, not ended
}

TEST(HttpConnection, TellsOfAnswers) {
  struct Line {
    std::string path;
    int status;
    size_t bytes;
    bool operator==(const Line&) const = default;
  };
  std::mutex mutex;
  std::vector<Line> lines;
  auto options = patient();
  options.on_answer = [&](const HttpRequest& request, int status, double seconds, size_t bytes) {
    EXPECT_GE(seconds, 0);
    std::lock_guard lock(mutex);
    lines.push_back({request.path, status, bytes});
  };
  TestServer server(options, [](auto exchange) {
    if (exchange->request().path == "/whole") return exchange->send({.status = 201, .body = "12345"});
    exchange->begin({.body = "1"});
    exchange->write("23");
    exchange->end();
  });
  TestClient client(server);
  client.ask("GET /whole HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.ask("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.ask("GET /stream HTTP/1.1\r\nHost: evil.example\r\n\r\n");
  client.ask("nonsense\r\n\r\n");
  server.end();
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], (Line{"/whole", 201, 5}));
  EXPECT_EQ(lines[1], (Line{"/stream", 200, 3}));
  EXPECT_EQ(lines[2].status, 403);
  EXPECT_EQ(lines[3].status, 400);
}

}  // namespace
}  // namespace mlx_lm::serve
