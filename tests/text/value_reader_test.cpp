#include "mlx_lm/text/value_reader.h"

#include <gtest/gtest.h>

namespace mlx_lm::text {
namespace {

std::string read(std::string_view text, Dialect dialect) {
  const auto value = read_value(text, dialect);
  return value ? to_json(*value) : "none";
}
std::string json_of(std::string_view text) { return read(text, Dialect::json); }
std::string python(std::string_view text) { return read(text, Dialect::python); }

TEST(ValueReader, reads_json) {
  EXPECT_EQ(json_of(" {\"b\": [1, -2.50, 1e5, true, null], \"a\": \"x\\n\\u00e9\\ud83d\\ude00\\/\"} "),
            "{\"b\": [1, -2.50, 1e5, true, null], \"a\": \"x\\né😀/\"}");
  EXPECT_EQ(json_of("123456789012345678901234567890"), "123456789012345678901234567890");
  EXPECT_EQ(json_of("{\"a\": 1, \"b\": 2, \"a\": 3}"), "{\"a\": 3, \"b\": 2}");
  EXPECT_EQ(json_of("\"\\ud800x\\ud800\\u0041\""), "\"\uFFFDx\uFFFDA\"");
  for (const char* wrong : {"",         " ",   "{",     "[1,]",      "{\"a\":1,}", "{a:1}", "01",  "1.",    ".5",
                            "+1",       "1_0", "0x1",   "NaN",       "-Infinity",  "True",  "'a'", "\"a",   "\"\\x41\"",
                            "\"a\nb\"", "1 2", "[1 2]", "\"\\u12\"", "--1",        "1e",    "nul", "nullx", "{\"a\"}",
                            "{1: 2}",   "[",   "]",     "\"\\",      "1e400",      "-"}) {
    EXPECT_EQ(json_of(wrong), "none") << wrong;
  }
  EXPECT_EQ(json_of(std::string(400, '9')), "none");
  EXPECT_EQ(json_of("1e-400"), "1e-400");
  EXPECT_EQ(read("\"a\nb\"", Dialect::loose_json), "\"a\\nb\"");
}

TEST(ValueReader, reads_python) {
  EXPECT_EQ(python("{'a': (1, 2.), 'b': [None, True, False,], 3: .5, None: 0x1F}"),
            "{\"a\": [1, 2.0], \"b\": [null, true, false], \"3\": 0.5, \"null\": 31}");
  EXPECT_EQ(python("1, 2"), "[1, 2]");
  EXPECT_EQ(python("1,"), "[1]");
  EXPECT_EQ(python("(1)"), "1");
  EXPECT_EQ(python("(1,)"), "[1]");
  EXPECT_EQ(python("()"), "[]");
  EXPECT_EQ(python("1_000"), "1000");
  EXPECT_EQ(python("00"), "0");
  EXPECT_EQ(python("007.5"), "7.5");
  EXPECT_EQ(python("-5"), "-5");
  EXPECT_EQ(python("'a' \"b\" r'\\c' '''d\n'''"), "\"ab\\\\cd\\n\"");
  EXPECT_EQ(python("'\\x41\\101\\u00e9\\U0001F600\\q\\\n'"), "\"AAé😀\\\\q\"");
  EXPECT_EQ(python("[1, # one\n 2]"), "[1, 2]");
  EXPECT_EQ(python("5 # five"), "5");
  EXPECT_EQ(read("[true, null, True]", Dialect::python_and_json), "[true, null, true]");
  for (const char* wrong : {"",     "true",     "{1, 2}", "b'x'", "f'x'",  "1j",          "007",    "1__0",
                            "1_",   "1a",       "'a\nb'", "'a",   "'''a'", "a",           "f(1)",   "[1 2]",
                            "1\n2", "{[1]: 2}", "--5",    "1+2",  "...",   "'\\N{DASH}'", "'\\xg'", "{**a}",
                            "[,]",  "(,)",      "0x",     "0x1_", "0o8",   "0b2",         "0q1",    "'\\U00110000'",
                            "'",    "'\\",      "1e400"}) {
    EXPECT_EQ(python(wrong), "none") << wrong;
  }
}

TEST(ValueReader, takes_what_is_nothing_else_as_text) {
  EXPECT_EQ(to_json(read_or_text("true")), "true");
  EXPECT_EQ(to_json(read_or_text("True")), "true");
  EXPECT_EQ(to_json(read_or_text("'a'")), "\"a\"");
  EXPECT_EQ(to_json(read_or_text("it's \x01\xFF")), "\"it's \\u0001\uFFFD\"");
}

TEST(ValueReader, reads_one_value_of_a_text) {
  size_t at = 2;
  EXPECT_EQ(to_json(*read_value_at("x {\"a\": 1} y", at, Dialect::json)), "{\"a\": 1}");
  EXPECT_EQ(at, 10u);
  EXPECT_FALSE(read_value_at("x", at, Dialect::json)) << "behind the end";
}

TEST(ValueReader, bounds_the_depth) {
  for (const auto& [open, close] : {std::pair{"[", "]"}, {"(", ",)"}, {"{'a':", "}"}}) {
    const auto nested = [&](int n) {
      std::string text;
      for (int i = 0; i < n; ++i) text += open;
      text += "1";
      for (int i = 0; i < n; ++i) text += close;
      return text;
    };
    EXPECT_NE(python(nested(kMaxValueDepth)), "none");
    EXPECT_EQ(python(nested(kMaxValueDepth + 1)), "none");
    EXPECT_EQ(python(nested(1'000'000)), "none");
  }
}

TEST(ValueReader, is_linear_in_the_number_of_keys) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += "\"" + std::to_string(i) + "\": 0, ";
  text += "\"5\": 1}";
  const auto value = read_value(text, Dialect::json);
  ASSERT_TRUE(value);
  EXPECT_EQ(value->items.size(), 200'000u);
  EXPECT_EQ(value->items[5].text, "1");
}

}  // namespace
}  // namespace mlx_lm::text
