#include "mlx_lm/serve/http_server.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <boost/asio/ssl.hpp>
#include <cstdio>
#include <filesystem>
#include <future>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/serve/http_client.h"

namespace mlx_lm::serve {
namespace {

namespace asio = boost::asio;
using std::chrono::hours;

TEST(HttpServer, TellsWhatItCannotListenOn) {
  TestServer first;
  HttpOptions options;
  options.port = first.port();
  const auto error_of = [&] {
    try {
      HttpServer server(options, echo);
    } catch (const RequestError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_TRUE(error_of().starts_with("[server] 127.0.0.1:" + std::to_string(first.port()) + ": ")) << error_of();
  options = on_free_port();
  options.host = "256.256.256.256";
  EXPECT_TRUE(error_of().starts_with("[server] 256.256.256.256:0: ")) << error_of();
  options.host = "127.0.0.1";
  options.threads = 0;
  EXPECT_TRUE(error_of().starts_with("[server] threads: ")) << error_of();
}

TEST(HttpServer, ListensOnNames) {
  HttpOptions options;
  options.host = "localhost";
  HttpServer server(on_free_port(options), echo);
  EXPECT_GT(server.port(), 0);
}

TEST(HttpServer, MayBeStoppedBeforeItRuns) {
  HttpServer server(on_free_port(), echo);
  server.stop(hours(1));
  server.run();
}

TEST(HttpServer, LetsAnswersFinishWhenItStops) {
  std::promise<std::shared_ptr<HttpExchange>> promise;
  TestServer server({}, [&](auto exchange) {
    if (exchange->request().path == "/idle") return echo(exchange);
    promise.set_value(exchange);
  });
  TestClient idle(server), client(server);
  EXPECT_EQ(idle.ask("GET /idle HTTP/1.1\r\nHost: localhost\r\n\r\n").result_int(), 200u);
  client.send(kGet + kGet);  // the second comes too late
  const auto exchange = promise.get_future().get();
  exchange->begin({.body = "a"});
  server->stop(hours(1));
  EXPECT_EQ(idle.rest(), "");
  EXPECT_THROW(TestClient late(server), boost::system::system_error);
  exchange->write("b");
  exchange->end();
  EXPECT_EQ(client.read().body(), "ab");
  EXPECT_EQ(client.rest(), "");
  client.socket().close();
  server.join();
}

TEST(HttpServer, CutsAnswersThatTakeTooLong) {
  std::promise<std::shared_ptr<HttpExchange>> promise;
  TestServer server({}, [&](auto exchange) { promise.set_value(exchange); });
  TestClient client(server);
  client.send(kGet);
  const auto exchange = promise.get_future().get();
  std::promise<void> gone;
  exchange->on_gone([&] { gone.set_value(); });
  server->stop(hours(1));
  server->stop(std::chrono::milliseconds(1));  // shortens it
  gone.get_future().wait();
  server.join();
  EXPECT_EQ(client.rest(), "");
  server.end();
  // Without a server.
  exchange->begin({});
  exchange->write("x");
  exchange->end();
  EXPECT_EQ(exchange->request().path, "/v1/models");
}

TEST(HttpServer, RefusesConnectionsBeyondItsLimit) {
  HttpOptions options;
  options.connections = 1;
  TestServer server(options);
  {
    TestClient first(server);
    EXPECT_EQ(first.ask(kGet).result_int(), 200u);
    TestClient second(server);
    const auto answer = second.read();
    EXPECT_EQ(answer.result_int(), 503u);
    EXPECT_EQ(field(answer, "Retry-After"), "1");
    EXPECT_EQ(json_of(answer)["error"]["type"], "server_error");
    EXPECT_EQ(second.rest(), "");
    EXPECT_EQ(first.ask(kGet).result_int(), 200u);
  }
  // Both have gone, as the server notices in time.
  for (;;) {
    TestClient third(server);
    try {
      if (third.ask(kGet).result_int() == 200) break;
    } catch (const boost::system::system_error&) {  // closed while the request was written
    }
  }
}

TEST(HttpServer, ServesManyAtOnce) {
  TestServer server({}, [](auto exchange) { std::thread([exchange] { echo(exchange); }).detach(); });
  std::vector<std::jthread> clients;
  std::atomic<int> right = 0;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      TestClient client(server);
      for (int k = 0; k < 50; ++k) {
        const auto body = std::to_string(i * 1000 + k);
        if (json_of(client.ask(post(body)))["body"] == body) ++right;
      }
    });
  }
  clients.clear();
  EXPECT_EQ(right, 400);
}

TEST(HttpServer, OutlivesGarbage) {
  TestServer server;
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    auto bytes = post("hello", "X-Y: z\r\n") + kGet;
    for (unsigned n = random() % 5 + 1; n > 0 && !bytes.empty(); --n) {
      const auto at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, random() % 20);
          break;
        case 2:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 50));
          break;
        case 3:
          bytes.resize(at + 1);
          break;
      }
    }
    TestClient client(server);
    boost::system::error_code ignored;
    asio::write(client.socket(), asio::buffer(bytes), ignored);
    if (random() % 4 == 0) continue;  // goes without a word
    client.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    const auto answer = client.rest();
    ASSERT_TRUE(answer.empty() || answer.starts_with("HTTP/1.1 ")) << bytes;
  }
  EXPECT_EQ(TestClient(server).ask(kGet).result_int(), 200u);
}

// A certificate for localhost, and its key, in files.
class HttpServerTls : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) / (std::string("http_server_") + test->name());
    std::filesystem::create_directories(folder_);
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const std::unique_ptr<X509, void (*)(X509*)> certificate(X509_new(), X509_free);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key.get());
    auto* name = X509_get_subject_name(certificate.get());
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1,
                               0);
    X509_set_issuer_name(certificate.get(), name);
    ASSERT_NE(X509_sign(certificate.get(), key.get(), EVP_sha256()), 0);
    write("key.pem", [&](std::FILE* file) {
      return PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
    write("certificate.pem", [&](std::FILE* file) { return PEM_write_X509(file, certificate.get()); });
    options_.tls_certificate = folder_ / "certificate.pem";
    options_.tls_key = folder_ / "key.pem";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  template <class F>
  void write(const char* name, F&& put) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen((folder_ / name).c_str(), "w"), std::fclose);
    ASSERT_TRUE(file);
    ASSERT_EQ(put(file.get()), 1);
  }

  std::filesystem::path folder_;
  HttpOptions options_;
};

TEST_F(HttpServerTls, TakesRequests) {
  TestServer server(options_, [](auto exchange) {
    if (exchange->request().method == "POST") return echo(exchange);
    exchange->begin({.body = "a"});
    exchange->write("b");
    exchange->end();
  });
  asio::ssl::context context(asio::ssl::context::tls_client);
  context.load_verify_file(options_.tls_certificate);
  context.set_verify_mode(asio::ssl::verify_peer);
  TestClient client(server);
  asio::ssl::stream<asio::ip::tcp::socket&> stream(client.socket(), context);
  stream.handshake(asio::ssl::stream_base::client);
  boost::beast::flat_buffer buffer;
  const auto ask = [&](const std::string& bytes) {
    asio::write(stream, asio::buffer(bytes));
    TestAnswer answer;
    boost::beast::http::read(stream, buffer, answer);
    return answer;
  };
  const std::string large(1'000'000, 'x');
  EXPECT_EQ(json_of(ask(post(large)))["body"], large);
  EXPECT_EQ(ask(kGet).body(), "ab");
  // An old client learns by TLS's own end that the stream was not cut.
  asio::write(stream, asio::buffer(std::string("GET / HTTP/1.0\r\n\r\n")));
  std::string rest;
  boost::system::error_code error;
  asio::read(stream, asio::dynamic_buffer(rest), error);
  EXPECT_EQ(error, asio::error::eof);
  EXPECT_TRUE(rest.ends_with("\r\n\r\nab")) << rest;
}

TEST_F(HttpServerTls, RefusesOldVersionsAndPlainText) {
  TestServer server(options_);
  asio::ssl::context context(asio::ssl::context::tls_client);
  SSL_CTX_set_security_level(context.native_handle(), 0);
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(context.native_handle(), TLS1_1_VERSION);
  TestClient old(server);
  asio::ssl::stream<asio::ip::tcp::socket&> stream(old.socket(), context);
  EXPECT_THROW(stream.handshake(asio::ssl::stream_base::client), boost::system::system_error);
  TestClient plain(server);
  plain.send(kGet);
  EXPECT_EQ(plain.rest().find("HTTP/"), std::string::npos);
}

TEST_F(HttpServerTls, NoticesThatTheClientGoes) {
  std::promise<void> gone;
  std::promise<std::shared_ptr<HttpExchange>> held;
  TestServer server(options_, [&](auto exchange) {
    exchange->on_gone([&] { gone.set_value(); });
    held.set_value(exchange);
  });
  asio::ssl::context context(asio::ssl::context::tls_client);
  {
    TestClient client(server);
    asio::ssl::stream<asio::ip::tcp::socket&> stream(client.socket(), context);
    stream.handshake(asio::ssl::stream_base::client);
    asio::write(stream, asio::buffer(kGet));
    held.get_future().wait();
  }
  gone.get_future().wait();
}

TEST_F(HttpServerTls, TellsWhichFileIsWrong) {
  const auto error_of = [&] {
    try {
      HttpServer server(on_free_port(options_), echo);
    } catch (const RequestError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(error_of(), "");
  const auto key = options_.tls_key;
  options_.tls_key = options_.tls_certificate;
  EXPECT_TRUE(error_of().starts_with("[server] TLS key: ")) << error_of();
  options_.tls_certificate = key;
  EXPECT_TRUE(error_of().starts_with("[server] TLS certificate: ")) << error_of();
  options_.tls_certificate = folder_ / "absent.pem";
  EXPECT_TRUE(error_of().ends_with("absent.pem")) << error_of();
}

}  // namespace
}  // namespace mlx_lm::serve
