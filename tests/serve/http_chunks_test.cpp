#include "mlx_lm/serve/http_chunks.h"

#include <string>

#include <gtest/gtest.h>

#include "mlx_lm/serve/api_error.h"

namespace mlx_lm::serve {
namespace {

// The body and what follows it; "more" when it is not complete, or the error's status.
std::string decode(const std::string& bytes, size_t at_once = 1, size_t line_limit = 100, size_t body_limit = 10) {
  ChunkReader reader(line_limit, body_limit);
  std::string body;
  size_t read = 0;
  try {
    while (read < bytes.size() && !reader.is_complete()) {
      read += reader.read(std::string_view(bytes).substr(read, at_once), body);
    }
  } catch (const ApiError& error) {
    return std::to_string(error.status());
  }
  return reader.is_complete() ? body + "|" + bytes.substr(read) : "more";
}

TEST(ChunkReader, JoinsChunks) {
  for (size_t at_once : {1, 2, 3, 100}) {
    EXPECT_EQ(decode("3\r\nabc\r\n0002\r\nde\r\n0\r\n\r\nGET", at_once), "abcde|GET");
    EXPECT_EQ(decode("A;x=\"y\"\r\n0123456789\r\n000;z\r\n\r\n", at_once), "0123456789|");
    EXPECT_EQ(decode("0\r\n\r\n", at_once), "|");
    EXPECT_EQ(decode("1\r\na\r\n0\r\nContent-Length: 3\r\nX:\r\n\r\n", at_once), "a|");
    EXPECT_EQ(decode("4\r\n\r\n\r\n\r\n0\r\n\r\n", at_once), "\r\n\r\n|");
    EXPECT_EQ(decode("3\r\nabc\r\n0\r\n", at_once), "more");
  }
}

TEST(ChunkReader, RefusesWhatTwoServersCouldReadDifferently) {
  for (const auto* bytes : {"x\r\n",
                            "\r\n",
                            "-1\r\n",
                            "-0\r\n",
                            "+1\r\n",
                            "0x3\r\n",
                            " 3\r\n",
                            "3 \r\n",
                            "3 ;a\r\n",
                            "3\n",
                            "3\rabc",
                            "3;\x01\r\n",
                            "3;a\nb",
                            "3\r\nabcd",
                            "3\r\nabc0\r\n",
                            "3\r\nabc\n",
                            "fffffffffffffffff\r\n",
                            "0\r\nno field\r\n",
                            "0\r\n: x\r\n",
                            "0\r\n X: y\r\n",
                            "0\r\nX : y\r\n",
                            "0\r\n\n",
                            "0\n\n",
                            "\xff\r\n"}) {
    EXPECT_EQ(decode(bytes), "400") << bytes;
    EXPECT_EQ(decode(bytes, 100), "400") << bytes;
  }
}

TEST(ChunkReader, KeepsToItsLimits) {
  EXPECT_EQ(decode("b\r\n"), "413");
  EXPECT_EQ(decode("5\r\n01234\r\n6\r\n"), "413");
  EXPECT_EQ(decode("ffffffffffffffff\r\n"), "413");
  EXPECT_EQ(decode("1\r\na\r\nffffffffffffffff\r\n"), "413");
  EXPECT_EQ(decode("3;" + std::string(200, 'a')), "400");
  EXPECT_EQ(decode("0\r\nX: " + std::string(200, 'a')), "400");
  std::string trailers = "0\r\n";
  for (int i = 0; i < 50; ++i) trailers += "X: y\r\n";
  EXPECT_EQ(decode(trailers), "400");
  std::string chunks;
  for (int i = 0; i < 10; ++i) chunks += "1;" + std::string(50, 'a') + "\r\nx\r\n";
  EXPECT_EQ(decode(chunks + "0\r\n\r\n"), "xxxxxxxxxx|");
}

}  // namespace
}  // namespace mlx_lm::serve
