#include "mlx_lm/serve/http_guard.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mlx_lm::serve {
namespace {

using Headers = std::map<std::string, std::string>;

HttpRequest request(const std::string& method, const Headers& headers, const std::string& path = "/v1/models") {
  return {.method = method, .path = path, .headers = headers};
}

// 0: it may pass.
int status(const HttpOptions& options, const HttpRequest& request) {
  const auto answer = HttpGuard(options).check(request);
  return answer ? answer->status : 0;
}

std::string value(const HttpHeaders& headers, const std::string& name) {
  const auto found =
      std::find_if(headers.begin(), headers.end(), [&](const auto& field) { return field.first == name; });
  return found == headers.end() ? "" : found->second;
}

TEST(HttpGuard, AsksForAKey) {
  HttpOptions options;
  options.api_keys = {"first", "second"};
  EXPECT_EQ(status(options, request("GET", {{"authorization", "Bearer first"}})), 0);
  EXPECT_EQ(status(options, request("GET", {{"authorization", "bearer  second"}})), 0);
  EXPECT_EQ(status(options, request("POST", {{"x-api-key", "second"}})), 0);
  EXPECT_EQ(status(options, request("POST", {{"authorization", "Bearer no"}, {"x-api-key", "first"}})), 0);
  for (const Headers& headers : std::vector<Headers>{{},
                                                     {{"authorization", "Bearer"}},
                                                     {{"authorization", "Bearer "}},
                                                     {{"authorization", "Bearer firs"}},
                                                     {{"authorization", "Bearer first2"}},
                                                     {{"authorization", "Basic first"}},
                                                     {{"authorization", "first"}},
                                                     {{"authorization", "Bearer first, Bearer first"}},
                                                     {{"x-api-key", ""}},
                                                     {{"x-api-key", "FIRST"}}}) {
    EXPECT_EQ(status(options, request("GET", headers)), 401);
    EXPECT_EQ(status(options, request("GET", headers, "/health")), 0);
    for (const auto* path : {"/", "/healthy", "/health/", "/metrics", "/unknown", "//health"}) {
      EXPECT_EQ(status(options, request("GET", headers, path)), 401) << path;
    }
  }
  const auto answer = HttpGuard(options).check(request("GET", {}));
  EXPECT_EQ(value(answer->headers, "WWW-Authenticate"), "Bearer");
  EXPECT_EQ(nlohmann::json::parse(answer->body)["error"]["type"], "authentication_error");
  EXPECT_EQ(status(options, request("OPTIONS", {})), 204);
}

TEST(HttpGuard, TakesNoForeignNameForThisMachine) {
  HttpOptions options;
  for (const auto* host :
       {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8080", "127.1.2.3"}) {
    EXPECT_EQ(status(options, request("GET", {{"host", host}})), 0) << host;
  }
  EXPECT_EQ(status(options, request("GET", {})), 0);  // HTTP/1.0
  for (const auto* host : {"evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
                           "192.168.0.1", "localhost:x", "[::1", "::1", "[::1]x", ":80", "127.0.0.1@evil.example"}) {
    EXPECT_EQ(status(options, request("GET", {{"host", host}})), 403) << host;
    EXPECT_EQ(status(options, request("OPTIONS", {{"host", host}})), 403) << host;
  }
  // Others cannot be had by a page that a key or the network keeps out.
  options.host = "localhost";
  EXPECT_EQ(status(options, request("GET", {{"host", "evil.example"}})), 403);
  options.host = "[::1]";
  EXPECT_EQ(status(options, request("GET", {{"host", "evil.example"}})), 403);
  options.host = "0.0.0.0";
  EXPECT_EQ(status(options, request("GET", {{"host", "server.example"}})), 0);
  options.host = "127.0.0.1";
  options.api_keys = {"key"};
  EXPECT_EQ(status(options, request("GET", {{"host", "server.example"}, {"x-api-key", "key"}})), 0);
}

TEST(HttpGuard, LetsNoForeignPageChangeAnything) {
  HttpOptions options;
  const auto post = [&](const std::string& origin, const std::string& host = "localhost:8080") {
    return status(options, request("POST", {{"host", host}, {"origin", origin}}));
  };
  EXPECT_EQ(post("https://evil.example"), 403);
  EXPECT_EQ(post("null"), 403);
  EXPECT_EQ(post("http://localhost:3000"), 403);
  EXPECT_EQ(post("http://localhost"), 403);
  EXPECT_EQ(post("http://localhost:8080"), 0);  // the server's own page
  EXPECT_EQ(post("http://127.0.0.1:8080", "127.0.0.1:8080"), 0);
  EXPECT_EQ(status(options, request("DELETE", {{"host", "localhost"}, {"origin", "https://evil.example"}})), 403);
  EXPECT_EQ(status(options, request("GET", {{"host", "localhost"}, {"origin", "https://evil.example"}})), 0);
  options.allowed_origins = {"https://good.example"};
  EXPECT_EQ(post("https://good.example"), 0);
  EXPECT_EQ(post("https://evil.example"), 403);
  EXPECT_EQ(post("http://good.example"), 403);
  options.allowed_origins = {"*"};
  EXPECT_EQ(post("https://evil.example"), 0);
}

TEST(HttpGuard, TellsBrowsersWhoMayRead) {
  HttpOptions options;
  const auto headers = [&](const std::string& origin) {
    return HttpGuard(options).cors_headers(request("GET", origin.empty() ? Headers() : Headers{{"origin", origin}}));
  };
  EXPECT_TRUE(headers("https://good.example").empty());
  options.allowed_origins = {"https://good.example", "https://other.example"};
  EXPECT_EQ(value(headers("https://good.example"), "Access-Control-Allow-Origin"), "https://good.example");
  EXPECT_EQ(value(headers("https://good.example"), "Vary"), "Origin");
  EXPECT_EQ(value(headers("https://evil.example"), "Access-Control-Allow-Origin"), "");
  EXPECT_EQ(value(headers("https://evil.example"), "Vary"), "Origin");
  EXPECT_EQ(value(headers(""), "Vary"), "Origin");
  options.allowed_origins = {"*"};
  EXPECT_EQ(value(headers("https://evil.example"), "Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(value(headers(""), "Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(value(headers(""), "Vary"), "");
}

TEST(HttpGuard, AnswersPreflights) {
  HttpOptions options;
  options.allowed_origins = {"https://good.example"};
  options.api_keys = {"key"};
  Headers asked = {{"origin", "https://good.example"},
                   {"access-control-request-method", "POST"},
                   {"access-control-request-headers", "authorization,anthropic-version"}};
  auto answer = HttpGuard(options).check(request("OPTIONS", asked));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 204);
  EXPECT_NE(value(answer->headers, "Access-Control-Allow-Methods").find("POST"), std::string::npos);
  EXPECT_EQ(value(answer->headers, "Access-Control-Allow-Headers"), "authorization,anthropic-version");
  EXPECT_EQ(value(answer->headers, "Access-Control-Max-Age"), "600");
  asked["access-control-request-headers"] = "a\"b";
  answer = HttpGuard(options).check(request("OPTIONS", asked));
  EXPECT_EQ(value(answer->headers, "Access-Control-Allow-Headers"), "Authorization, Content-Type, X-Api-Key");
  asked["origin"] = "https://evil.example";
  answer = HttpGuard(options).check(request("OPTIONS", asked));
  EXPECT_EQ(answer->status, 204);
  EXPECT_EQ(value(answer->headers, "Access-Control-Allow-Headers"), "");
}

}  // namespace
}  // namespace mlx_lm::serve
