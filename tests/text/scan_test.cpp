#include "mlx_lm/text/scan.h"

#include <gtest/gtest.h>

#include "mlx_lm/text/utf8.h"

namespace mlx_lm::text {
namespace {

TEST(Scan, strips_what_python_strips) {
  EXPECT_EQ(strip(" \t\n\v\f\r\x1C\x1Fx y\u0085\u00A0\u1680\u2000\u200A\u2028\u2029\u202F\u205F\u3000"), "x y");
  EXPECT_EQ(strip("\u200Bx\u200B"), "\u200Bx\u200B") << "a zero-width space is none";
  EXPECT_EQ(strip(" \u3000 "), "");
  EXPECT_EQ(strip_left(" x "), "x ");
  EXPECT_EQ(strip_right(" x "), " x");
  EXPECT_EQ(strip("\xE3\x80"), "\xE3\x80") << "a part of a space";
}

TEST(Scan, finds_blocks_and_needles) {
  const auto block = next_block("a<b>c</b>d<b>", "<b>", "</b>");
  ASSERT_TRUE(block);
  EXPECT_EQ(block->text, "c");
  EXPECT_EQ(block->begin, 1u);
  EXPECT_EQ(block->end, 9u);
  EXPECT_FALSE(next_block("a<b>c</b>d<b>", "<b>", "</b>", block->end));
  Finder finder("a.b.c", ".");
  EXPECT_EQ(finder.from(0), 1u);
  EXPECT_EQ(finder.from(1), 1u);
  EXPECT_EQ(finder.from(2), 3u);
  EXPECT_EQ(finder.from(4), std::string::npos);
}

TEST(Scan, shows_the_beginning_of_a_text) {
  EXPECT_EQ(excerpt(""), "nothing");
  EXPECT_EQ(excerpt("a\nb"), "'a b'");
  EXPECT_EQ(excerpt(std::string(59, 'x') + "\u00e9"), "'" + std::string(59, 'x') + "...'") << "no half characters";
  EXPECT_EQ(find_invalid(excerpt("\xFF")), std::string::npos);
}

}  // namespace
}  // namespace mlx_lm::text
