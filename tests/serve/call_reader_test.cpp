#include "mlx_lm/serve/call_reader.h"

#include <gtest/gtest.h>

namespace mlx_lm::serve {
namespace {

using Kind = CallReader::Piece::Kind;

// What comes of a text that is cut after every n bytes: "name(arguments)" for each call.
std::string read(std::string_view text, size_t n) {
  CallReader reader;
  std::string result;
  for (size_t at = 0; at < text.size(); at += n) {
    for (const auto& piece : reader.add(text.substr(at, n))) {
      result += piece.kind == Kind::call ? "|" + piece.text + ":" : piece.text;
    }
  }
  return result;
}

TEST(CallReader, ReadsCallsCutAnywhere) {
  const std::string_view text =
      R"([{"name": "f", "arguments": {"a": "}]\"{", "b": [1, {"c": 2}]}}, {"name": "g", "arguments": {}}])";
  for (size_t n = 1; n <= text.size(); ++n) {
    EXPECT_EQ(read(text, n), R"(|f:{"a": "}]\"{", "b": [1, {"c": 2}]}|g:{})") << n;
  }
}

TEST(CallReader, LeavesOtherTextAsItIs) {
  EXPECT_EQ(read("Hello [1] {}", 1), "Hello [1] {}");
  EXPECT_EQ(read("", 1), "");
}

}  // namespace
}  // namespace mlx_lm::serve
