#include "mlx_lm/load/json_file.h"

#include <cmath>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/load/temp_folder.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

// The error's text.
std::string refused(std::string_view text) {
  try {
    parse_json(text, "a/b.json");
  } catch (const ConfigError& error) {
    return error.what();
  }
  ADD_FAILURE() << text.substr(0, 60);
  return "";
}

TEST(ReadText, ReadsWholeFilesUpToALimit) {
  TempFolder folder;
  const std::string bytes("a\0\r\n\xff", 5);
  folder.write("file", bytes);
  folder.write("empty", "");
  EXPECT_EQ(read_text(folder.path(), "file", 5), bytes);
  EXPECT_EQ(read_text(folder.path(), "empty", 0), "");
  EXPECT_EQ(read_text(folder.path(), "missing", 5), std::nullopt);
  EXPECT_THROW(read_text(folder.path(), "file", 4), Error);
  EXPECT_THROW(read_text(folder.path(), "../file", 5), Error);
}

TEST(ReadJson, ReadsAFile) {
  TempFolder folder;
  folder.write("config.json", R"({"a": [1, null]})");
  EXPECT_EQ(read_json(folder.path(), "config.json"), json::parse(R"({"a": [1, null]})"));
  EXPECT_EQ(read_json(folder.path(), "missing.json"), std::nullopt);
  folder.write("bad.json", "{");
  try {
    read_json(folder.path(), "bad.json");
    ADD_FAILURE();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find((folder.path() / "bad.json").string()), std::string::npos);
  }
}

TEST(ParseJson, RestoresNumbersThatJsonLacks) {
  const auto value = parse_json(R"({"a": {"__float__": "Infinity"}, "b": [{"__float__": "-Infinity"}],
      "c": {"__float__": "NaN"}, "d": {"__float__": "1"}, "e": {"__float__": 1},
      "f": {"__float__": "NaN", "x": 1}})",
                                "");
  EXPECT_EQ(value["a"], INFINITY);
  EXPECT_EQ(value["b"][0], -INFINITY);
  EXPECT_TRUE(std::isnan(value["c"].get<double>()));
  EXPECT_TRUE(value["d"].is_object());
  EXPECT_TRUE(value["e"].is_object());
  EXPECT_TRUE(value["f"].is_object());
}

TEST(ParseJson, ReadsThoseNumbersAsPythonWritesThem) {
  const auto value =
      parse_json(R"({"a": [0.0, Infinity], "b": -Infinity, "c": NaN, "Infinity": "a \"NaN\" -Infinity"})", "");
  EXPECT_EQ(value["a"][1], INFINITY);
  EXPECT_EQ(value["b"], -INFINITY);
  EXPECT_TRUE(std::isnan(value["c"].get<double>()));
  EXPECT_EQ(value["Infinity"], "a \"NaN\" -Infinity");
  EXPECT_EQ(refused("[Infinity1]").find("[config] a/b.json: "), 0u);
}

TEST(ParseJson, RefusesWhatIsNotJson) {
  for (std::string_view text : {"", " ", "{", "[1,]", "{'a': 1}", "nan", "Infinit", "1 2", "\xff", "\"\xff\"",
                                "\"\xc0\x80\"", "\"\n\"", "1e999", "// comment\n1", "\"\\ud800\"", "tru", "+1", "01"}) {
    const auto error = refused(text);
    EXPECT_EQ(error.find("[config] a/b.json: "), 0u) << error;
    EXPECT_EQ(error.find("json.exception"), std::string::npos) << error;
  }
  // Huge whole numbers are rounded, and the reader of the field judges them.
  EXPECT_EQ(parse_json("123456789012345678901234567890", "").get<double>(), 123456789012345678901234567890.0);
}

TEST(ParseJson, RefusesDeepNesting) {
  auto nested = [](int depth, const char* open, const char* close) {
    std::string text;
    for (int i = 0; i < depth; ++i) text += open;
    text += "1";
    for (int i = 0; i < depth; ++i) text += close;
    return text;
  };
  EXPECT_NO_THROW(parse_json(nested(64, "[", "]"), ""));
  EXPECT_NO_THROW(parse_json(nested(64, "{\"a\":", "}"), ""));
  for (int depth : {66, 1000, 1000000}) {
    EXPECT_NE(refused(nested(depth, "[", "]")).find("nested"), std::string::npos);
    EXPECT_NE(refused(nested(depth, "{\"a\":", "}")).find("nested"), std::string::npos);
  }
  EXPECT_NE(refused(std::string(1000000, '[')).find("nested"), std::string::npos);
}

}  // namespace
}  // namespace mlx_lm
