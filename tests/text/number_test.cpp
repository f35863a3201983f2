#include "mlx_lm/text/number.h"

#include <gtest/gtest.h>

namespace mlx_lm::text {
namespace {

TEST(Number, reads_what_int_and_float_take) {
  EXPECT_EQ(read_int(" +007 "), "7");
  EXPECT_EQ(read_int("-1_000"), "-1000");
  EXPECT_EQ(read_int("-0"), "0");
  for (const char* wrong : {"", "-", "1.0", "1e3", "0x1", "1 2", "a", "_1", "1__0"})
    EXPECT_FALSE(read_int(wrong)) << wrong;
  EXPECT_EQ(read_float(" -1_0.5e1 "), -105.0);
  EXPECT_EQ(read_float("1e-999"), 0.0);
  for (const char* wrong : {"", ".", "nan", "inf", "1e999", "1.5x", "e5"}) EXPECT_FALSE(read_float(wrong)) << wrong;
  EXPECT_EQ(number_json(5.0), "5");
  EXPECT_EQ(number_json(-0.0), "0");
  EXPECT_EQ(number_json(1e22), "10000000000000000000000");
  EXPECT_EQ(number_json(1e-7), "1e-07");
  EXPECT_EQ(number_json(0.1), "0.1");
  EXPECT_EQ(number_json(1.7976931348623157e308).size(), 309u);
}

}  // namespace
}  // namespace mlx_lm::text
