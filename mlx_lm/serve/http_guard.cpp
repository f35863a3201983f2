#include "mlx_lm/serve/http_guard.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/beast/core/string.hpp>

#include "mlx_lm/serve/api_error.h"
#include "mlx_lm/serve/http_answer.h"

namespace mlx_lm::serve {

namespace {

using boost::beast::iequals;

// "127.0.0.1:8080" -> "127.0.0.1", "[::1]:8080" -> "::1". Empty when it is neither.
std::string_view without_port(std::string_view host) {
  std::string_view port;
  if (host.starts_with('[')) {
    const auto end = host.find(']');
    if (end == std::string_view::npos) return {};
    port = host.substr(end + 1);
    host = host.substr(1, end - 1);
  } else if (const auto colon = host.find(':'); colon != std::string_view::npos) {
    port = host.substr(colon);
    host = host.substr(0, colon);
  }
  const bool is_port = port.empty() || (port[0] == ':' && std::all_of(port.begin() + 1, port.end(),
                                                                      [](char c) { return c >= '0' && c <= '9'; }));
  return is_port ? host : std::string_view();
}

// localhost, or the address of a loopback interface: an address cannot be rebound.
bool is_loopback(std::string_view host) {
  if (iequals(host, "localhost")) return true;
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(std::string(host), error);
  return !error && address.is_loopback();
}

bool is_token_list(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == ',' || c == ' '; });
}

}  // namespace

HttpGuard::HttpGuard(const HttpOptions& options) : host_(options.host) {
  for (const auto& key : options.api_keys) keys_.push_back(digest(key));
  for (const auto& origin : options.allowed_origins) {
    if (origin == "*") any_origin_ = true;
    origins_.push_back(origin);
  }
  if (host_.starts_with('[') && host_.ends_with(']')) host_ = host_.substr(1, host_.size() - 2);
  checks_host_ = keys_.empty() && is_loopback(host_);
}

std::optional<HttpAnswer> HttpGuard::check(const HttpRequest& request) const {
  const auto host = request.header("host");
  if (checks_host_ && !host.empty() && !is_local_host(host)) {
    return error_answer(ApiError(
        403,
        fmt::format("Host: expected this machine's (localhost, 127.0.0.1 or [::1]), found \"{}\"", printable(host))));
  }
  if (request.method == "OPTIONS") return preflight(request);

  const auto origin = request.header("origin");
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (!origin.empty() && !reads && !is_allowed(origin)) {
    const auto scheme = origin.find("://");
    if (scheme == std::string_view::npos || !iequals(origin.substr(scheme + 3), host)) {
      return error_answer(ApiError(403, fmt::format("Origin: expected one of the server's allowed origins, "
                                                    "found \"{}\"",
                                                    printable(origin))));
    }
  }
  if (!keys_.empty() && request.path != "/health" && !has_key(request)) {
    auto answer = error_answer(
        ApiError(401, "API key: expected a valid one in \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"", "",
                 "invalid_api_key"));
    answer.headers.emplace_back("WWW-Authenticate", "Bearer");
    return answer;
  }
  return std::nullopt;
}

HttpHeaders HttpGuard::cors_headers(const HttpRequest& request) const {
  if (any_origin_) {
    return {{"Access-Control-Allow-Origin", "*"}, {"Access-Control-Expose-Headers", "x-request-id"}};
  }
  if (origins_.empty()) return {};
  const auto origin = request.header("origin");
  // Also where there is none: a cache must not give one page what was made for another.
  if (origin.empty() || !is_allowed(origin)) return {{"Vary", "Origin"}};
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Expose-Headers", "x-request-id"},
          {"Vary", "Origin"}};
}

HttpAnswer HttpGuard::preflight(const HttpRequest& request) const {
  constexpr const char* kMethods = "GET, HEAD, POST, DELETE, OPTIONS";
  HttpAnswer answer{.status = 204, .content_type = "", .headers = {{"Allow", kMethods}}};
  if (!is_allowed(request.header("origin"))) return answer;
  answer.headers.emplace_back("Access-Control-Allow-Methods", kMethods);
  // Those that are asked for: clients have headers of their own, and "*" would not stand for Authorization.
  const auto asked = request.header("access-control-request-headers");
  answer.headers.emplace_back("Access-Control-Allow-Headers", asked.empty() || !is_token_list(asked)
                                                                  ? "Authorization, Content-Type, X-Api-Key"
                                                                  : std::string(asked));
  answer.headers.emplace_back("Access-Control-Max-Age", "600");
  return answer;
}

bool HttpGuard::is_allowed(std::string_view origin) const {
  if (origin.empty()) return false;
  return any_origin_ || std::any_of(origins_.begin(), origins_.end(),
                                    [&](const std::string& allowed) { return iequals(origin, allowed); });
}

bool HttpGuard::is_local_host(std::string_view host) const {
  const auto name = without_port(host);
  return !name.empty() && (is_loopback(name) || iequals(name, host_));
}

bool HttpGuard::has_key(const HttpRequest& request) const {
  constexpr std::string_view kScheme = "bearer ";
  const auto authorization = request.header("authorization");
  if (authorization.size() > kScheme.size() && iequals(authorization.substr(0, kScheme.size()), kScheme)) {
    auto key = authorization.substr(kScheme.size());
    key.remove_prefix(std::min(key.find_first_not_of(' '), key.size()));
    if (is_known(key)) return true;
  }
  const auto key = request.header("x-api-key");
  return !key.empty() && is_known(key);
}

HttpGuard::Digest HttpGuard::digest(std::string_view key) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

// In a time that tells nothing of the keys: digests are of one length, and all of them are compared.
bool HttpGuard::is_known(std::string_view key) const {
  const auto given = digest(key);
  bool known = false;
  for (const auto& key : keys_) known |= CRYPTO_memcmp(key.data(), given.data(), given.size()) == 0;
  return known;
}

}  // namespace mlx_lm::serve
