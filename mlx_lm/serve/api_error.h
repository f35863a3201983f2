// What is wrong with a request, as clients of OpenAI's API expect to read it.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"

namespace mlx_lm::serve {

// Becomes an answer with that status and the body
//   {"error": {"message": ..., "type": ..., "param": the field or null, "code": ... or null}}
class ApiError : public Error {
 public:
  // param: the field that is wrong: "messages[2].content"; empty: none.
  ApiError(int status, const std::string& message, std::string param = {}, std::string code = {});

  int status() const { return status_; }
  const std::string& param() const { return param_; }
  const std::string& code() const { return code_; }
  // By the status: "invalid_request_error", "authentication_error", "not_found_error", "rate_limit_error",
  // "server_error".
  std::string type() const;
  nlohmann::ordered_json body() const;

  // Seconds after which it is worth another try, for statuses 429 and 503.
  std::optional<int> retry_after;

 private:
  int status_;
  std::string param_, code_;
};

}  // namespace mlx_lm::serve
