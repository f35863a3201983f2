#include "mlx_lm/serve/http_options.h"

#include <algorithm>

#include "mlx_lm/base/error.h"

namespace mlx_lm::serve {

namespace {

void check_range(const char* name, long long value, long long low, long long high) {
  if (value < low || value > high) {
    fail<RequestError>("[server] {}: expected {} to {}, found {}", name, low, high, value);
  }
}

bool is_origin(const std::string& text) {
  const auto scheme = text.find("://");
  if (scheme == std::string::npos || scheme == 0) return false;
  const auto authority = text.substr(scheme + 3);
  return !authority.empty() && std::none_of(authority.begin(), authority.end(), [](unsigned char c) {
    return c <= ' ' || c >= 0x7f || c == '/' || c == ',' || c == '*' || c == '@';
  });
}

}  // namespace

void HttpOptions::validate() const {
  if (host.empty()) fail<RequestError>("[server] host: expected an address or a name, found nothing");
  check_range("port", port, 0, 65535);
  check_range("threads", threads, 1, 64);
  for (const auto& key : api_keys) {
    // Spaces at its ends would be lost on the way, and others are no part of a bearer's token.
    const auto odd = [](unsigned char c) { return c <= ' ' || c >= 0x7f; };
    if (key.empty() || std::any_of(key.begin(), key.end(), odd)) {
      fail<RequestError>("[server] api_keys: expected keys of visible ASCII characters, found another");
    }
  }
  for (const auto& origin : allowed_origins) {
    if (origin != "*" && !is_origin(origin)) {
      fail<RequestError>("[server] allowed_origins: expected \"*\" or \"scheme://host[:port]\", found \"{}\"", origin);
    }
  }
  if (tls_certificate.empty() != tls_key.empty()) {
    fail<RequestError>("[server] tls: expected a certificate and its key, found only the {}",
                       tls_key.empty() ? "certificate" : "key");
  }
  check_range("header_bytes", static_cast<long long>(header_bytes), 256, 1 << 20);
  check_range("body_bytes", static_cast<long long>(body_bytes), 0, 1ll << 40);
  check_range("ahead_bytes", static_cast<long long>(ahead_bytes), 1, 1 << 30);
  check_range("unread_bytes", static_cast<long long>(unread_bytes), 1, 1ll << 40);
  check_range("connections", connections, 1, 1 << 20);
  constexpr long long kDay = 24 * 3600 * 1000;
  check_range("header_time", header_time.count(), 1, kDay);
  check_range("body_stall", body_stall.count(), 1, kDay);
  check_range("body_time", body_time.count(), 1, kDay);
  check_range("idle_time", idle_time.count(), 1, kDay);
  check_range("write_stall", write_stall.count(), 1, kDay);
}

}  // namespace mlx_lm::serve
