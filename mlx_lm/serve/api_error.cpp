#include "mlx_lm/serve/api_error.h"

#include <utility>

namespace mlx_lm::serve {

using json = nlohmann::ordered_json;

ApiError::ApiError(int status, const std::string& message, std::string param, std::string code)
    : Error(message), status_(status), param_(std::move(param)), code_(std::move(code)) {}

std::string ApiError::type() const {
  switch (status_) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
  }
  return status_ < 500 ? "invalid_request_error" : "server_error";
}

json ApiError::body() const {
  const auto text_or_null = [](const std::string& text) { return text.empty() ? json() : json(text); };
  return {{"error",
           {{"message", what()}, {"type", type()}, {"param", text_or_null(param_)}, {"code", text_or_null(code_)}}}};
}

}  // namespace mlx_lm::serve
