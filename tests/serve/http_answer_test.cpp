#include "mlx_lm/serve/http_answer.h"

#include <gtest/gtest.h>

namespace mlx_lm::serve {
namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(HttpAnswer, HasAHeadOfItsKind) {
  const HttpAnswer answer{.body = "{}", .headers = {{"X-A", "b"}}};
  const auto head = answer_head(answer, "id1", {{"Vary", "Origin"}}, BodyEnd::length, true, false);
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\nServer: mlx_lm\r\nDate: ")) << head;
  EXPECT_TRUE(has(head,
                  " GMT\r\nx-request-id: id1\r\nContent-Type: application/json\r\nX-A: b\r\nVary: Origin\r\n"
                  "Content-Length: 2\r\n\r\n"))
      << head;
  EXPECT_TRUE(answer_head(answer, "i", {}, BodyEnd::length, false, false).ends_with("Connection: close\r\n\r\n"));
  EXPECT_TRUE(answer_head(answer, "i", {}, BodyEnd::length, true, true).ends_with("Connection: keep-alive\r\n\r\n"));
  const auto chunked = answer_head(answer, "i", {}, BodyEnd::chunks, true, false);
  EXPECT_TRUE(has(chunked, "Transfer-Encoding: chunked\r\n"));
  EXPECT_FALSE(has(chunked, "Content-Length"));
  const auto none = answer_head({.status = 204}, "i", {}, BodyEnd::none, true, false);
  EXPECT_FALSE(has(none, "Content-"));
}

TEST(HttpAnswer, LetsNoValueBeginAnotherHeader) {
  const auto head =
      answer_head({.headers = {{"X-A", "b\r\nSet-Cookie: c\x01\x7f"}}}, "i", {}, BodyEnd::length, true, false);
  EXPECT_TRUE(has(head, "X-A: b  Set-Cookie: c  \r\n")) << head;
}

TEST(HttpAnswer, TellsErrors) {
  ApiError error(503, "busy \xff");
  error.retry_after = 7;
  const auto answer = error_answer(error);
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.headers, (HttpHeaders{{"Retry-After", "7"}}));
  EXPECT_EQ(nlohmann::json::parse(answer.body)["error"]["message"], "busy \xEF\xBF\xBD");
  EXPECT_EQ(printable("a\nb\x7f\xff"), "a?b??");
  EXPECT_EQ(printable(std::string(100, 'a')), std::string(80, 'a') + "...");
}

TEST(HttpAnswer, EncodesChunks) {
  EXPECT_EQ(chunk("0123456789abcdef"), "10\r\n0123456789abcdef\r\n");
  EXPECT_EQ(chunk(""), "");
}

}  // namespace
}  // namespace mlx_lm::serve
