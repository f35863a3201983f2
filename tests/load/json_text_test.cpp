#include "mlx_lm/load/json_text.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mlx_lm {
namespace {

using nlohmann::json;

TEST(JsonText, EscapesAndChecksUtf8) {
  auto text = [](std::string_view in) {
    std::string out;
    return append_json_string(out, in) ? out : "bad";
  };
  std::string all;
  for (int c = 0; c < 128; ++c) all += char(c);
  all += "é▁日🙂\u0080\uffff\U0010ffff";
  EXPECT_EQ(json::parse(text(all)), all);
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xe2\x96", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3\x28", "\xe2\x28\xa1", "\xf0\x9f\x99"}) {
    EXPECT_EQ(text(bad), "bad") << bad;
  }
}

}  // namespace
}  // namespace mlx_lm
