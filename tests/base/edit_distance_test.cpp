#include "mlx_lm/base/edit_distance.h"

#include <string>

#include <gtest/gtest.h>

namespace mlx_lm {
namespace {

TEST(EditDistance, counts_letters) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("abc", "abc"), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("temp", "tmep"), 2);
}

TEST(EditDistance, finds_the_nearest) {
  const std::string_view names[] = {"top-k", "top-p", "temp"};
  EXPECT_EQ(nearest("tmp", names), "temp");
  EXPECT_EQ(nearest("top_p", names), "top-p");
  EXPECT_EQ(nearest("top-", names), "top-k") << "the first of two";
  EXPECT_EQ(nearest("", names), "temp");
  EXPECT_EQ(nearest("temp" + std::string(10'000'000, 'x'), names), "temp") << "as if it were short";
}

}  // namespace
}  // namespace mlx_lm
