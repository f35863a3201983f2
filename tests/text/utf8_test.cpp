// Against what Python makes of the same bytes (tests/golden/dump_utf8.py).
#include "mlx_lm/text/utf8.h"

#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mlx_lm::text {
namespace {

using nlohmann::json;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) bytes += char(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

TEST(Utf8, replaces_and_finds_as_python_does) {
  const auto golden = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/utf8.json"));
  ASSERT_GE(golden.size(), 1000u);
  for (const auto& entry : golden) {
    const auto bytes = from_hex(entry.at("bytes"));
    EXPECT_EQ(replace_invalid(bytes), entry.at("replaced").get<std::string>()) << entry;
    const auto& at = entry.at("invalid");
    EXPECT_EQ(find_invalid(bytes), at.is_null() ? std::string::npos : at.get<size_t>()) << entry;
  }
}

TEST(Utf8, leaves_good_text_alone) {
  const std::string text = "a\u00e9\u20ac\U0001f600 \uFFFD";
  EXPECT_EQ(replace_invalid(text), text);
  EXPECT_EQ(find_invalid(text), std::string::npos);
  EXPECT_EQ(replace_invalid(""), "");
  EXPECT_EQ(find_invalid(""), std::string::npos);
}

// The bytes come from a file or a request, and nothing ends them.
TEST(Utf8, reads_nothing_past_the_end) {
  for (std::string_view whole : {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"}) {
    for (size_t n = 1; n < whole.size(); ++n) {
      const std::vector<char> exact(whole.begin(), whole.begin() + long(n));  // so that a sanitizer sees the end
      EXPECT_EQ(replace_invalid({exact.data(), n}), kReplacement);
      EXPECT_EQ(find_invalid({exact.data(), n}), 0u);
    }
  }
}

}  // namespace
}  // namespace mlx_lm::text
