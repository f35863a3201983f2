#include "mlx_lm/serve/api_error.h"

#include <gtest/gtest.h>

namespace mlx_lm::serve {
namespace {

using json = nlohmann::ordered_json;

TEST(ApiError, IsWhatClientsRead) {
  const ApiError error(400, "messages: expected a list, found a number", "messages", "invalid_type");
  EXPECT_EQ(error.body(), (json{{"error",
                                 {{"message", "messages: expected a list, found a number"},
                                  {"type", "invalid_request_error"},
                                  {"param", "messages"},
                                  {"code", "invalid_type"}}}}));
}

TEST(ApiError, NamesItsTypeByTheStatus) {
  EXPECT_EQ(ApiError(401, "").type(), "authentication_error");
  EXPECT_EQ(ApiError(403, "").type(), "permission_error");
  EXPECT_EQ(ApiError(404, "").type(), "not_found_error");
  EXPECT_EQ(ApiError(413, "").type(), "invalid_request_error");
  EXPECT_EQ(ApiError(429, "").type(), "rate_limit_error");
  EXPECT_EQ(ApiError(503, "").type(), "server_error");
  EXPECT_TRUE(ApiError(503, "").body()["error"]["param"].is_null());
}

}  // namespace
}  // namespace mlx_lm::serve
