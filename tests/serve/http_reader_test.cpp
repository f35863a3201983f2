#include "mlx_lm/serve/http_reader.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "mlx_lm/serve/api_error.h"

namespace mlx_lm::serve {
namespace {

// What comes of some bytes: a line for each request, and for the error that ends them.
std::vector<std::string> read_all(const std::string& bytes, size_t at_once, const HttpOptions& options = {}) {
  HttpReader reader(options);
  std::vector<std::string> found;
  try {
    for (size_t i = 0; i < bytes.size(); i += at_once) {
      reader.add(std::string_view(bytes).substr(i, at_once));
      for (auto step = reader.step(); step != HttpReader::Step::more; step = reader.step()) {
        if (step == HttpReader::Step::header) continue;
        const auto& request = reader.request();
        found.push_back(request.method + " " + request.path + "?" + request.query + " " + request.body);
        reader.next();
      }
    }
  } catch (const ApiError& error) {
    found.push_back(std::to_string(error.status()));
    EXPECT_FALSE(reader.request().id.empty());
  }
  return found;
}

std::string only(const std::string& bytes, const HttpOptions& options = {}) {
  const auto found = read_all(bytes, bytes.size(), options);
  EXPECT_EQ(found, read_all(bytes, 1, options)) << bytes;
  return found.size() == 1 ? found[0] : "[" + std::to_string(found.size()) + "]";
}

std::string get(const std::string& target) { return "GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n"; }
std::string with(const std::string& headers, const std::string& body = {}) {
  return "POST / HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n" + body;
}

TEST(HttpReader, ReadsRequestsOneAfterAnother) {
  const auto bytes = get("/a?b=c") + with("Content-Length: 5\r\n", "hello") +
                     with("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n") +
                     "\r\n" + get("/z");
  const std::vector<std::string> expected = {"GET /a?b=c ", "POST /? hello", "POST /? abcde", "GET /z? "};
  for (size_t at_once : {1, 2, 3, 7, 64, 1000}) EXPECT_EQ(read_all(bytes, at_once), expected) << at_once;
}

TEST(HttpReader, DecodesThePath) {
  EXPECT_EQ(only(get("/a%20b/%C3%A9?q=%20")), "GET /a b/\xC3\xA9?q=%20 ");
  EXPECT_EQ(only(get("/%2e%2E/%2f")), "GET /..//? ");
  for (const auto* wrong :
       {"/%", "/%4", "/%zz", "/%00", "/a%0Ab", "/%7f", "/a#b", "a", "?a", "*", "ftp://h/", "http://", "http://u@h/"}) {
    EXPECT_EQ(only(get(wrong)), "400") << wrong;
  }
}

TEST(HttpReader, TakesTheFormOfProxies) {
  EXPECT_EQ(only(get("http://evil.example/a?b")), "GET /a?b ");
  EXPECT_EQ(only(get("HTTP://evil.example")), "GET /? ");
  EXPECT_EQ(only(get("http://evil.example?b")), "GET /?b ");
  HttpOptions options;
  HttpReader reader(options);
  reader.add(get("http://evil.example/a"));
  ASSERT_EQ(reader.step(), HttpReader::Step::header);
  EXPECT_EQ(reader.request().header("host"), "evil.example");  // not "h"
  EXPECT_EQ(only("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), "OPTIONS *? ");
}

TEST(HttpReader, RefusesWhatTwoServersCouldReadDifferently) {
  for (const auto* headers : {
           "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
           "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
           "Content-Length: 3\r\nContent-Length: 3\r\n",
           "Content-Length: 3\r\nContent-Length: 4\r\n",
           "Content-Length: 3, 3\r\n",
           "Content-Length: +3\r\n",
           "Content-Length: -3\r\n",
           "Content-Length: 0x3\r\n",
           "Content-Length: 3 3\r\n",
           "Content-Length:\r\n",
           "Content-Length: 99999999999999999999999\r\n",
           "Content-Length : 3\r\n",
           " Content-Length: 3\r\n",
           "X: y\r\n Content-Length: 3\r\nContent-Length: 4\r\n",
           "X: y\r\n\tz\r\nContent-Length: 3\r\n",
           "Content-Length: 3\n",
           "Content-Length: 3\rX: y\r\n",
           "Content-Length: 3\r\nX: a\x01z\r\n",
           "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
           "Transfer-Encoding: gzip, chunked\r\n",
           "Transfer-Encoding: chunked, identity\r\n",
           "Transfer-Encoding: xchunked\r\n",
           "Transfer-Encoding:\r\n",
           "Transfer-Encoding: \"chunked\"\r\n",
           "Content-Length: 3\r\nHost: other\r\n",
       }) {
    EXPECT_EQ(only(with(headers, "3\r\nabc\r\n0\r\n\r\n")), "400") << headers;
  }
  EXPECT_EQ(only("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "400");
}

TEST(HttpReader, RefusesWhatIsNoHttp) {
  for (const auto* bytes :
       {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", "GET / HTTP/1.2\r\nHost: h\r\n\r\n",
        "GET /\r\nHost: h\r\n\r\n", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "\x16\x03\x01\x02\x01", "G\xc3\xa9T / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\n\n"}) {
    EXPECT_EQ(only(bytes), "400") << bytes;
  }
  EXPECT_EQ(only("GET / HTTP/1.0\r\n\r\n"), "GET /? ");
}

TEST(HttpReader, KeepsToItsLimits) {
  HttpOptions options;
  options.header_bytes = 300;
  options.body_bytes = 10;
  EXPECT_EQ(only(get("/" + std::string(300, 'a')), options), "431");
  EXPECT_EQ(only("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(10'000, 'a'), options), "431");
  EXPECT_EQ(only(with("Content-Length: 10\r\n", "0123456789"), options), "POST /? 0123456789");
  EXPECT_EQ(only(with("Content-Length: 11\r\n"), options), "413");
  EXPECT_EQ(only(with("Transfer-Encoding: chunked\r\n", "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), options),
            "POST /? 0123456789");
  EXPECT_EQ(only(with("Transfer-Encoding: chunked\r\n", "5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n"), options), "413");
}

TEST(HttpReader, NeedsTheLengthOfABody) {
  EXPECT_EQ(only(with("")), "411");
  EXPECT_EQ(only("PUT / HTTP/1.0\r\n\r\n"), "411");
  EXPECT_EQ(only(with("Content-Length: 0\r\n")), "POST /? ");
  EXPECT_EQ(only("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n"), "DELETE /? ");
}

TEST(HttpReader, KnowsWhatTheClientExpects) {
  HttpOptions options;
  HttpReader reader(options);
  reader.add(with("Content-Length: 3\r\nExpect: 100-Continue\r\nConnection: close\r\n"));
  ASSERT_EQ(reader.step(), HttpReader::Step::header);
  EXPECT_TRUE(reader.wants_continue());
  EXPECT_TRUE(reader.has_body());
  EXPECT_FALSE(reader.keep_alive());
  EXPECT_EQ(only(with("Content-Length: 3\r\nExpect: a miracle\r\n")), "417");
}

TEST(HttpReader, NamesRequests) {
  const auto id = [](const std::string& header) {
    HttpOptions options;
    HttpReader reader(options);
    reader.add("GET / HTTP/1.1\r\nHost: h\r\n" + header + "\r\n");
    reader.step();
    return reader.request().id;
  };
  EXPECT_EQ(id("X-Request-Id: a.B_9-\r\n"), "a.B_9-");
  EXPECT_EQ(id("X-Request-Id: " + std::string(128, 'x') + "\r\n"), std::string(128, 'x'));
  const std::string own = id("");
  EXPECT_EQ(own.size(), 32u);
  EXPECT_NE(own, id(""));
  for (const auto* odd : {"", "a b", "a/b", "<b>"})
    EXPECT_EQ(id("X-Request-Id: " + std::string(odd) + "\r\n").size(), 32u);
  EXPECT_EQ(id("X-Request-Id: " + std::string(129, 'x') + "\r\n").size(), 32u);
}

TEST(HttpReader, JoinsHeadersOfOneName) {
  HttpOptions options;
  HttpReader reader(options);
  reader.add("GET / HTTP/1.1\r\nHost: h\r\nAccept: a\r\naccept:  b \r\n\r\n");
  reader.step();
  EXPECT_EQ(reader.request().header("accept"), "a, b");
  EXPECT_EQ(reader.request().header("absent"), "");
}

// However the bytes are cut, the same comes of them.
TEST(HttpReader, ReadsGarbageTheSameInAnyPieces) {
  const auto good = with("Content-Length: 5\r\nX-Y: z\r\n", "hello") +
                    with("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n") + get("/a?b");
  std::mt19937 random(1);
  HttpOptions options;
  options.header_bytes = 512;
  for (int round = 0; round < 4000; ++round) {
    auto bytes = good;
    for (unsigned n = random() % 4 + 1; n > 0 && !bytes.empty(); --n) {
      const auto at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, random() % 8);
          break;
        case 2:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 40));
          break;
        case 3:
          bytes.insert(at, 1, "\r\n :;0%"[random() % 7]);
          break;
      }
    }
    const auto found = read_all(bytes, bytes.size(), options);
    ASSERT_EQ(read_all(bytes, 1, options), found) << bytes;
    ASSERT_EQ(read_all(bytes, random() % 50 + 1, options), found) << bytes;
  }
}

}  // namespace
}  // namespace mlx_lm::serve
