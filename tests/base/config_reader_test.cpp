#include "mlx_lm/base/config_reader.h"

#include <limits>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

ConfigReader reader(const std::string& text) { return ConfigReader(json::parse(text), "m/config.json"); }

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(ConfigReader, reads_every_type) {
  const auto c = reader(R"({"b": true, "i": -7, "f": 1.5, "s": "text", "is": [1, 2], "fs": [1, 2.5], "ss": ["a", ""],
                            "none": []})");
  EXPECT_EQ(c.get<bool>("b"), true);
  EXPECT_EQ(c.get<int>("i"), -7);
  EXPECT_EQ(c.get<float>("f"), 1.5f);
  EXPECT_EQ(c.get<float>("i"), -7.f) << "a whole number where one may have a fraction";
  EXPECT_EQ(c.get<std::string>("s"), "text");
  EXPECT_EQ(c.get<std::vector<int>>("is"), (std::vector{1, 2}));
  EXPECT_EQ(c.get<std::vector<float>>("fs"), (std::vector{1.f, 2.5f}));
  EXPECT_EQ(c.get<std::vector<std::string>>("ss"), (std::vector<std::string>{"a", ""}));
  EXPECT_TRUE(c.get<std::vector<int>>("none").empty());
}

TEST(ConfigReader, takes_null_for_absent) {
  const auto c = reader(R"({"a": null, "b": 1})");
  EXPECT_FALSE(c.has("a"));
  EXPECT_FALSE(c.has("c"));
  EXPECT_TRUE(c.has("b"));
  EXPECT_EQ(c.get<int>("a", 5), 5);
  EXPECT_EQ(c.find<int>("a"), std::nullopt);
  EXPECT_EQ(c.find<int>("b"), 1);
  EXPECT_EQ(message_of([&] { c.get<int>("a"); }), "[config] m/config.json: a: expected a whole number, found null");
  EXPECT_EQ(message_of([&] { c.get<int>("c"); }), "[config] m/config.json: c: expected a whole number, found nothing");
}

TEST(ConfigReader, takes_a_whole_number_written_with_a_point) {
  const auto c = reader(R"({"a": 64.0, "b": 64.5, "c": 1e300, "d": -3.0, "e": 1e10})");
  EXPECT_EQ(c.get<int>("a"), 64);
  EXPECT_EQ(c.get<int>("d"), -3);
  for (const char* key : {"b", "c", "e"}) EXPECT_THROW(c.get<int>(key), ConfigError) << key;
}

TEST(ConfigReader, refuses_numbers_that_do_not_fit) {
  const auto c = reader(R"({"a": 2147483647, "b": 2147483648, "c": -2147483648, "d": -2147483649,
                            "e": 18446744073709551615, "f": 1e39, "g": -1e300})");
  EXPECT_EQ(c.get<int>("a"), std::numeric_limits<int>::max());
  EXPECT_EQ(c.get<int>("c"), std::numeric_limits<int>::min());
  for (const char* key : {"b", "d", "e"}) EXPECT_THROW(c.get<int>(key), ConfigError) << key;
  for (const char* key : {"f", "g"}) EXPECT_THROW(c.get<float>(key), ConfigError) << key;
  json odd;
  odd["nan"] = std::numeric_limits<double>::quiet_NaN();
  odd["inf"] = std::numeric_limits<double>::infinity();
  const ConfigReader o(odd, "x");
  EXPECT_THROW(o.get<float>("nan"), ConfigError);
  EXPECT_THROW(o.get<int>("nan"), ConfigError);
  EXPECT_THROW(o.get<float>("inf"), ConfigError);
  EXPECT_THROW(o.get<int>("inf"), ConfigError);
}

TEST(ConfigReader, names_what_it_expected) {
  const auto c = reader(R"({"a": {"x": [1, "two"]}})");
  EXPECT_EQ(message_of([&] { c.get<bool>("a"); }),
            R"([config] m/config.json: a: expected true or false, found {"x":[1,"two"]})");
  const auto a = c.sub("a");
  EXPECT_EQ(message_of([&] { a.get<std::vector<int>>("x"); }),
            R"([config] m/config.json: a: x: expected a list of whole numbers, found [1,"two"])");
  EXPECT_EQ(message_of([&] { a.get<std::vector<float>>("x"); }),
            R"([config] m/config.json: a: x: expected a list of finite numbers, found [1,"two"])");
  EXPECT_EQ(message_of([&] { a.get<std::vector<std::string>>("x"); }),
            R"([config] m/config.json: a: x: expected a list of texts, found [1,"two"])");
  EXPECT_EQ(message_of([&] { a.get<std::string>("x"); }),
            R"([config] m/config.json: a: x: expected a text, found [1,"two"])");
  EXPECT_EQ(message_of([&] { a.get<float>("x"); }),
            R"([config] m/config.json: a: x: expected a finite number, found [1,"two"])");
  EXPECT_THROW(c.get<int>("a"), ConfigError);
  EXPECT_THROW(reader(R"({"a": 1})").get<bool>("a"), ConfigError) << "1 is not true";
  EXPECT_THROW(reader(R"({"a": true})").get<int>("a"), ConfigError) << "true is not 1";
  EXPECT_THROW(reader(R"({"a": "1"})").get<int>("a"), ConfigError);
}

TEST(ConfigReader, bounds_sizes) {
  const auto c = reader(R"({"a": 8, "zero": 0, "minus": -1, "huge": 268435457, "text": "8"})");
  EXPECT_EQ(c.get_size("a"), 8);
  EXPECT_EQ(c.get_size("a", 8, 8), 8);
  EXPECT_EQ(c.get_size("zero", 0), 0);
  for (const char* key : {"zero", "minus", "huge", "text", "absent"}) EXPECT_THROW(c.get_size(key), ConfigError) << key;
  EXPECT_EQ(message_of([&] { c.get_size("a", 1, 7); }),
            "[config] m/config.json: a: expected a whole number from 1 to 7, found 8");
  EXPECT_EQ(c.get_size_or("absent", 3), 3);
  EXPECT_EQ(c.get_size_or("a", 3), 8);
  EXPECT_THROW(c.get_size_or("zero", 3), ConfigError);
}

TEST(ConfigReader, wants_objects) {
  EXPECT_EQ(message_of([] { ConfigReader(json::parse("[1]"), "f"); }), "[config] f: expected a JSON object, found [1]");
  const auto c = reader(R"({"a": 5, "b": null})");
  EXPECT_THROW(c.sub("a"), ConfigError);
  EXPECT_THROW(c.sub("b"), ConfigError);
  EXPECT_THROW(c.sub("c"), ConfigError);
}

// The file may be hostile: errors stay short, printable and of one line.
TEST(ConfigReader, shows_only_the_start_of_a_value) {
  const ConfigReader c({{"long", std::string(1000000, 'x')}, {"bad", "\xFF\x1b[2J\n\u00e9"}}, "f");
  const auto text = message_of([&] { c.get<int>("long"); });
  EXPECT_LT(text.size(), 150u);
  EXPECT_TRUE(text.ends_with("xxx...")) << text;
  EXPECT_EQ(message_of([&] { c.get<int>("bad"); }),
            R"([config] f: bad: expected a whole number, found "\ufffd\u001b[2J\n\u00e9")");
}

}  // namespace
}  // namespace mlx_lm
