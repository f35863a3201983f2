// Who may ask: API keys, and which web pages.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "mlx_lm/serve/http.h"
#include "mlx_lm/serve/http_options.h"

namespace mlx_lm::serve {

// A browser runs pages of anybody, and lets them send to a server on the user's own machine. So a request that a page
// of another site may have sent is refused unless that site is allowed: by its Origin when it could change something,
// and by its Host when the server is there for this machine only and asks for no key (a foreign name that leads here is
// DNS rebinding). Immutable. Threads: any.
class HttpGuard {
 public:
  explicit HttpGuard(const HttpOptions& options);

  // The answer to a request that goes no further: the answer to OPTIONS (204), or an error (401, 403). Needs no body.
  std::optional<HttpAnswer> check(const HttpRequest& request) const;
  // What every answer to the request has, so that a page which may read it can.
  HttpHeaders cors_headers(const HttpRequest& request) const;

 private:
  using Digest = std::array<unsigned char, 32>;  // SHA-256

  static Digest digest(std::string_view key);
  bool is_known(std::string_view key) const;
  bool has_key(const HttpRequest& request) const;
  bool is_allowed(std::string_view origin) const;
  bool is_local_host(std::string_view host) const;
  HttpAnswer preflight(const HttpRequest& request) const;

  std::vector<Digest> keys_;
  std::vector<std::string> origins_;
  std::string host_;
  bool any_origin_ = false;
  bool checks_host_ = false;
};

}  // namespace mlx_lm::serve
