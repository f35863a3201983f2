#include "mlx_lm/serve/http_exchange.h"

#include <atomic>
#include <future>
#include <string>

#include <gtest/gtest.h>

#include "tests/serve/http_client.h"

namespace mlx_lm::serve {
namespace {

TEST(GoneSignal, CallsOnce) {
  GoneSignal signal;
  int calls = 0;
  signal.on_gone([&] { ++calls; });
  signal.on_gone([&] { ++calls; });
  signal.fire();
  EXPECT_EQ(calls, 2);
  signal.fire();
  signal.disarm();
  EXPECT_EQ(calls, 2);
  signal.on_gone([&] { ++calls; });
  EXPECT_EQ(calls, 3);
}

TEST(GoneSignal, LetsGoOfCallbacksThatAreNotNeeded) {
  GoneSignal signal;
  const auto held = std::make_shared<int>();
  signal.on_gone([held] { ++*held; });
  signal.disarm();
  EXPECT_EQ(held.use_count(), 1);
  signal.fire();
  signal.on_gone([held] { ++*held; });
  EXPECT_EQ(*held, 0);
}

TEST(HttpExchange, NoticesThatTheClientOfAStreamGoes) {
  Held held;
  TestServer server(patient(), held.handler());
  std::atomic<int> calls = 0;
  std::promise<void> gone;
  std::shared_ptr<HttpExchange> exchange;
  {
    TestClient client(server);
    client.send(kGet);
    exchange = held.get();
    exchange->on_gone([&] {
      if (++calls == 1) gone.set_value();
    });
    exchange->begin({.body = "x"});
    client.take(1);
  }
  gone.get_future().wait();
  exchange->write("dropped");
  exchange->end();
  bool at_once = false;
  exchange->on_gone([&] { at_once = true; });
  EXPECT_TRUE(at_once);
  server.end();
  EXPECT_EQ(calls, 1);
}

TEST(HttpExchange, NoticesThatTheClientGoesBeforeTheAnswer) {
  Held held;
  TestServer server(patient(), held.handler());
  std::promise<void> gone;
  std::shared_ptr<HttpExchange> exchange;
  {
    TestClient client(server);
    client.send(kGet);
    exchange = held.get();
    exchange->on_gone([&] { gone.set_value(); });
  }
  gone.get_future().wait();
  exchange->send({});
}

TEST(HttpExchange, TellsNothingAfterTheAnswer) {
  Held held;
  std::atomic<int> calls = 0;
  TestServer server(patient(), held.handler());
  {
    TestClient client(server);
    client.send(kGet);
    const auto exchange = held.get();
    exchange->on_gone([&] { ++calls; });
    exchange->send({.body = "{}"});
    exchange->on_gone([&] { ++calls; });
    EXPECT_EQ(client.read().body(), "{}");
  }
  server.end();
  EXPECT_EQ(calls, 0);
}

TEST(HttpExchange, AnswersForAnExchangeThatIsLetGo) {
  TestServer server(patient(), [](auto exchange) {
    if (exchange->request().path == "/begun") exchange->begin({.body = "x"});
  });
  TestClient client(server);
  const auto answer = client.ask(kGet);
  EXPECT_EQ(answer.result_int(), 500u);
  EXPECT_TRUE(answer.keep_alive());
  EXPECT_THROW(client.ask("GET /begun HTTP/1.1\r\nHost: localhost\r\n\r\n"), boost::system::system_error);
}

}  // namespace
}  // namespace mlx_lm::serve
