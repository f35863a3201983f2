#include "mlx_lm/serve/http_options.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm::serve {
namespace {

std::string error_of(const std::function<void(HttpOptions&)>& change) {
  HttpOptions options;
  change(options);
  try {
    options.validate();
  } catch (const RequestError& error) {
    return error.what();
  }
  return "";
}

TEST(HttpOptions, NamesWhatIsWrong) {
  EXPECT_EQ(error_of([](auto&) {}), "");
  EXPECT_EQ(error_of([](auto& o) { o.port = 65536; }), "[server] port: expected 0 to 65535, found 65536");
  EXPECT_NE(error_of([](auto& o) { o.port = -1; }), "");
  EXPECT_NE(error_of([](auto& o) { o.host = ""; }), "");
  EXPECT_NE(error_of([](auto& o) { o.threads = 0; }), "");
  EXPECT_NE(error_of([](auto& o) { o.connections = 0; }), "");
  EXPECT_NE(error_of([](auto& o) { o.header_bytes = 0; }), "");
  EXPECT_NE(error_of([](auto& o) { o.idle_time = std::chrono::milliseconds(0); }), "");
  EXPECT_NE(error_of([](auto& o) { o.tls_key = "key.pem"; }), "");
  EXPECT_NE(error_of([](auto& o) { o.tls_certificate = "cert.pem"; }), "");
  for (const auto* key : {"", " ", "a b", "a\n", "k\xc3\xa9y"}) {
    EXPECT_NE(error_of([&](auto& o) { o.api_keys = {"good", key}; }), "") << key;
  }
  for (const auto* origin :
       {"", "example.org", "https://", "://a", "https://a/", "https://*.a", "https://a,https://b"}) {
    EXPECT_NE(error_of([&](auto& o) { o.allowed_origins = {"*", origin}; }), "") << origin;
  }
  EXPECT_EQ(error_of([](auto& o) { o.allowed_origins = {"https://a.example:8", "http://[::1]:3000"}; }), "");
}

TEST(HttpOptions, KeepsKeysOutOfErrors) {
  EXPECT_EQ(error_of([](auto& o) { o.api_keys = {"se cret"}; }).find("cret"), std::string::npos);
}

}  // namespace
}  // namespace mlx_lm::serve
