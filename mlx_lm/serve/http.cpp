#include "mlx_lm/serve/http.h"

namespace mlx_lm::serve {

std::string_view HttpRequest::header(const std::string& lower_case_name) const {
  const auto found = headers.find(lower_case_name);
  return found == headers.end() ? std::string_view() : found->second;
}

}  // namespace mlx_lm::serve
