#include "mlx_lm/serve/page.h"

#include <algorithm>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace mlx_lm::serve {
namespace {

HttpRequest get(const std::string& path, const std::string& if_none_match = {}) {
  HttpRequest request{.method = "GET", .path = path};
  if (!if_none_match.empty()) request.headers["if-none-match"] = if_none_match;
  return request;
}

std::string header(const HttpAnswer& answer, std::string_view name) {
  const auto found = std::ranges::find(answer.headers, name, &HttpHeaders::value_type::first);
  return found == answer.headers.end() ? "" : found->second;
}

TEST(Page, HasItsFilesWithTypesAndTags) {
  std::set<std::string_view> etags;
  for (const PageFile& file : page_files()) {
    EXPECT_FALSE(file.bytes.empty()) << file.path;
    EXPECT_TRUE(file.path.starts_with('/')) << file.path;
    EXPECT_TRUE(file.etag.starts_with('"') && file.etag.ends_with('"') && file.etag.size() == 34) << file.etag;
    EXPECT_TRUE(etags.insert(file.etag).second) << file.path;
    EXPECT_EQ(find_page_file(file.path), &file);
  }
  EXPECT_EQ(find_page_file("/")->content_type, "text/html; charset=utf-8");
  EXPECT_EQ(find_page_file("/chat.js")->content_type, "text/javascript; charset=utf-8");
  EXPECT_EQ(find_page_file("/style.css")->content_type, "text/css; charset=utf-8");
  EXPECT_EQ(find_page_file("/icon.svg")->content_type, "image/svg+xml");
  EXPECT_NE(find_page_file("/licenses.txt")->bytes.find("markdown-it"), std::string_view::npos);
}

// The bytes survive their way through the generated source: quotes, backslashes, question marks and UTF-8.
TEST(Page, CarriesTheVeryBytes) {
  EXPECT_TRUE(find_page_file("/")->bytes.starts_with("<!doctype html>\n"));
  EXPECT_TRUE(find_page_file("/")->bytes.ends_with("</html>\n"));
  const std::string_view script = find_page_file("/chat.js")->bytes;
  EXPECT_GT(script.size(), 100'000u);
  EXPECT_EQ(script.find('\0'), std::string_view::npos);
  EXPECT_NE(script.find("v1/chat/completions"), std::string_view::npos);
}

// The policy forbids scripts and styles inside the page, so it must have none.
TEST(Page, HasNothingInlineThatItsPolicyForbids) {
  const std::string_view page = find_page_file("/")->bytes;
  EXPECT_EQ(page.find("<style"), std::string_view::npos);
  EXPECT_EQ(page.find(" style="), std::string_view::npos);
  for (size_t at = page.find("<script"); at != std::string_view::npos; at = page.find("<script", at + 1)) {
    EXPECT_TRUE(page.substr(at).starts_with("<script src=\"") || page.substr(at).starts_with("<script defer src=\""));
  }
}

TEST(Page, AnswersWithItsPolicy) {
  const auto answer = page_answer(get("/"));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->content_type, "text/html; charset=utf-8");
  EXPECT_EQ(answer->body, find_page_file("/")->bytes);
  EXPECT_EQ(header(*answer, "ETag"), find_page_file("/")->etag);
  EXPECT_EQ(header(*answer, "X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(header(*answer, "Referrer-Policy"), "no-referrer");
  EXPECT_EQ(header(*answer, "Cache-Control"), "no-cache");
  const std::string policy = header(*answer, "Content-Security-Policy");
  EXPECT_TRUE(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; ")) << policy;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  EXPECT_NE(policy.find("frame-ancestors 'none'"), std::string::npos);
}

TEST(Page, SendsNothingTwice) {
  const std::string etag(find_page_file("/chat.js")->etag);
  const std::string lists[] = {etag, "W/" + etag, "\"other\", " + etag + "\t, \"third\"", "*"};
  for (const std::string& list : lists) {
    const auto answer = page_answer(get("/chat.js", list));
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 304) << list;
    EXPECT_TRUE(answer->body.empty());
    EXPECT_EQ(header(*answer, "ETag"), etag);
  }
  for (const std::string list : {"\"other\"", "W/", ",,", "\"", std::string(find_page_file("/")->etag).c_str()}) {
    EXPECT_EQ(page_answer(get("/chat.js", list))->status, 200) << list;
  }
}

TEST(Page, LeavesOtherRequestsAlone) {
  EXPECT_FALSE(page_answer(get("/v1/models")));
  EXPECT_FALSE(page_answer(get("")));
  EXPECT_FALSE(page_answer(get("/index.html")));
  EXPECT_FALSE(page_answer(get("/../chat.js")));
  EXPECT_FALSE(page_answer(get("/chat.js/")));
  EXPECT_FALSE(page_answer({.method = "POST", .path = "/"}));
  EXPECT_TRUE(page_answer({.method = "HEAD", .path = "/"}));
}

}  // namespace
}  // namespace mlx_lm::serve
