// The formats against mlx-lm's parsers (tests/golden/dump_tool_calls.py), and what a hostile text may not do.
#include "mlx_lm/text/tool_parsers.h"

#include <fstream>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/text/utf8.h"

namespace mlx_lm::text {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

const json& golden() {
  static const auto data = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/tool_calls.json"));
  return data;
}

// Calls as the golden file has them, the arguments as values: the order of keys counts, the spelling of numbers does
// not.
ordered_json values(ordered_json calls) {
  if (calls.is_null()) return calls;
  for (auto& call : calls) call[1] = ordered_json::parse(call[1].get<std::string>());
  return calls;
}

// None for a text that is refused, which takes one clear line.
std::vector<ToolCall> parsed_calls(const ToolFormat& format, const std::string& text, const json& tools) {
  try {
    auto calls = format.parse(text, tools);
    EXPECT_FALSE(calls.empty()) << text;
    return calls;
  } catch (const ToolCallError& error) {
    const std::string_view line = error.what();
    EXPECT_TRUE(line.starts_with("[tool call] ")) << line;
    EXPECT_EQ(line.find('\n'), line.npos) << line;
    EXPECT_LT(line.size(), 300u) << line;
    EXPECT_EQ(find_invalid(line), line.npos) << line;
    return {};
  }
}

ordered_json parsed(const ToolFormat& format, const std::string& text, const json& tools) {
  auto calls = ordered_json::array();
  for (const auto& call : parsed_calls(format, text, tools)) {
    calls.push_back({call.name, call.arguments, call.id.empty() ? ordered_json() : ordered_json(call.id)});
  }
  return calls.empty() ? ordered_json() : values(calls);
}

class Format : public testing::TestWithParam<const char*> {};

TEST_P(Format, reads_what_mlx_lm_reads) {
  const auto* format = find_tool_format(GetParam());
  ASSERT_TRUE(format);
  const auto& cases = golden().at("formats").at(GetParam());
  ASSERT_GE(cases.size(), 100u);
  int equal = 0, different = 0;
  for (const auto& c : cases) {
    const auto found = parsed(*format, c[0], golden().at("tools"));
    const auto theirs = values(ordered_json(c[1]));
    if (c.size() == 2) {
      equal += found == theirs;
      EXPECT_EQ(found, theirs) << c[0];
    } else {
      different += 1;
      EXPECT_EQ(found, values(ordered_json(c[2]))) << c[0] << ": " << c[3];
      EXPECT_NE(found, theirs) << "no difference any more: " << c[0];
    }
  }
  RecordProperty("equal", equal);
  RecordProperty("different", different);
}

INSTANTIATE_TEST_SUITE_P(ToolParsers, Format,
                         testing::Values("minimax_m2", "gemma4", "function_gemma", "longcat", "glm47", "pythonic",
                                         "qwen3_coder", "kimi_k2", "mistral", "json_tools", "minicpm5", "muse_spark",
                                         "kimi_k3"),
                         [](const auto& info) { return info.param; });

// Mutations and joints of the golden texts: calls that keep their promise, or one clear error.
TEST_P(Format, survives_any_text) {
  const auto* format = find_tool_format(GetParam());
  const auto& cases = golden().at("formats").at(GetParam());
  const std::string marks = std::string("<>{}[]()\"'|:,=/\\\n a1-_\xC3\xA9\xFF") + '\0' + std::string(format->start);
  std::mt19937 random(7);
  const auto any = [&]() -> const std::string& {
    return cases[random() % cases.size()][0].get_ref<const std::string&>();
  };
  for (int i = 0; i < 6000; ++i) {
    std::string text = any();
    for (size_t n = random() % 6; n > 0; --n) {
      const size_t at = random() % (text.size() + 1);
      switch (random() % 5) {
        case 0:
          text.resize(at);
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        case 2:
          text.insert(at, 1, marks[random() % marks.size()]);
          break;
        case 3:
          text.insert(at, text.substr(random() % (text.size() + 1), random() % 20));
          break;
        default:
          text += any();
      }
    }
    const json tools = i % 2 ? golden().at("tools") : json();
    for (const auto& call : parsed_calls(*format, text, tools)) {
      EXPECT_FALSE(call.name.empty()) << text;
      // Strict: UTF-8, no NaN, no number that a double cannot hold.
      const auto arguments = json::parse(call.arguments, nullptr, /* allow_exceptions */ false);
      EXPECT_TRUE(arguments.is_object()) << text << " -> " << call.arguments;
    }
  }
}

TEST_P(Format, is_bounded_in_depth) {
  const auto* format = find_tool_format(GetParam());
  std::vector<std::string> units = {" ",
                                    "\n",
                                    "a",
                                    "[",
                                    "{",
                                    "(",
                                    "\"",
                                    "'",
                                    "<",
                                    ">",
                                    ":",
                                    ",",
                                    "=",
                                    "a=",
                                    "\\",
                                    "[a(",
                                    "a:{",
                                    "call:f{",
                                    "call:f{a:",
                                    "f[ARGS]",
                                    "f[ARGS]{",
                                    "<function=f>",
                                    "<function=f></function>",
                                    "<parameter=a>",
                                    "<invoke name=a>",
                                    "</invoke>",
                                    "<parameter name=a>",
                                    "<arg_key>",
                                    "<arg_key>a</arg_key>",
                                    "</arg_key>",
                                    "<arg_value>",
                                    "<longcat_arg_key>a</longcat_arg_key>",
                                    "<|tool_call_begin|>",
                                    "f:0",
                                    "<|tool_call_argument_begin|>",
                                    "<|open|>call<|sep|>",
                                    "<|open|>argument<|sep|>",
                                    "=\"",
                                    " name=\"",
                                    "<atem:invoke name=\"a\">",
                                    "<atem:parameter name=\"a\">",
                                    "<param name=\"a\">",
                                    "\"a\">",
                                    "<|\"|>",
                                    "<escape>",
                                    "f\n",
                                    "a=1 "};
  for (const auto& unit : units) {
    for (const char* head : {"", "[f(a=", "{\"name\": \"f\", \"arguments\": ", "call:f{a:", "f[ARGS]", "f ",
                             "f:0<|tool_call_argument_begin|>"}) {
      std::string text = head;
      while (text.size() < 30'000) text += unit;
      parsed_calls(*format, text, golden().at("tools"));
    }
  }
}

// What begins over and over and never ends: quadratic time would take these beyond the limit that ctest sets.
TEST_P(Format, is_linear) {
  const std::map<std::string, std::vector<std::string>> units = {
      {"minimax_m2", {"<invoke name=a>", "<invoke name=a></invoke>", "<invoke name=a><parameter name=b>"}},
      {"gemma4", {"call:f{", "call:f", "call:f{a:<|\"|>", "call:f{}", "{a:"}},
      {"function_gemma", {"call:f{", "call:f{a:<escape>", "call:f{a:\"x,"}},
      {"longcat",
       {"<longcat_arg_key>", "<longcat_arg_key>a</longcat_arg_key>", "<longcat_arg_key>a</longcat_arg_key> "}},
      {"glm47", {"<arg_key>", "<arg_key>a</arg_key>", "<arg_key>a</arg_key><arg_value>", "a=1 ", "\n", "f\n"}},
      {"pythonic", {"[f(", "[f(a=", "[f(a=\"", "[", "[a"}},
      {"qwen3_coder", {"<function=f>", "<function=f></function>", "<function=f><parameter=a>", "<parameter=a>"}},
      {"kimi_k2", {"<|tool_call_begin|>", "f:0<|tool_call_argument_begin|>", ":0", " "}},
      {"mistral", {"[ARGS]", "f[ARGS]", "f ", "f[ARGS]{}", "f[ARGS]{"}},
      {"json_tools", {"{", "[", "\"", "[1,"}},
      {"minicpm5", {"\"a\">", "> ", "a>", "\"f\"><param name=\"a\">", " "}},
      {"muse_spark", {"<atem:invoke name=\"a\">", "<atem:parameter name=\"a\">", "<atem:invoke>", "</atem:invoke>"}},
      {"kimi_k3", {"<|open|>call<|sep|>", "<|open|>call tool=\"f\"<|sep|>", "<|open|>json<|sep|>"}}};
  const auto* format = find_tool_format(GetParam());
  for (const auto& unit : units.at(GetParam())) {
    std::string text;
    while (text.size() < 4'000'000) text += unit;
    parsed_calls(*format, text, nullptr);
    parsed_calls(*format, text + std::string(format->end) + "<parameter=a>1</parameter></function>", nullptr);
  }
}

TEST_P(Format, takes_any_tools) {
  const auto* format = find_tool_format(GetParam());
  json deep = json::object();
  for (int i = 0; i < 1200; ++i) {  // more than are looked at
    json outer;
    outer["anyOf"].push_back(std::move(deep));
    deep = std::move(outer);
  }
  const auto tool = [](json properties) {
    return json{{{"function", {{"name", "get_weather"}, {"parameters", {{"properties", std::move(properties)}}}}}}};
  };
  const std::vector<json> all = {5,
                                 json::array({5, nullptr, json::object(), {{"function", 5}}}),
                                 {{{"function", {{"name", 5}}}}},
                                 {{{"function", {{"name", "get_weather"}, {"parameters", 5}}}}},
                                 tool(5),
                                 tool({{"city", 5}, {"count", {{"type", 5}}}, {"ratio", {{"enum", 5}, {"anyOf", 5}}}}),
                                 tool({{"city", deep}, {"count", {{"type", {1, "integer"}}}}})};
  for (const auto& tools : all) {
    for (const auto& c : golden().at("formats").at(GetParam())) parsed_calls(*format, c[0], tools);
  }
}

TEST(ToolFormats, have_mlx_lms_names_and_markers) {
  const auto formats = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/tool_formats.json"));
  json found = json::object();
  for (const auto& format : tool_formats()) found[std::string(format.name)] = {format.start, format.end};
  EXPECT_EQ(found, formats.at("markers"));
  EXPECT_EQ(find_tool_format("nope"), nullptr);
  EXPECT_EQ(find_tool_format(""), nullptr);
}

TEST(ToolFormats, are_told_by_their_templates) {
  const auto formats = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/tool_formats.json"));
  ASSERT_GE(formats.at("templates").size(), 150u);
  for (const auto& c : formats.at("templates")) {
    const auto* format = tool_format_of_template(c[0].get<std::string>());
    EXPECT_EQ(format ? json(format->name) : json(), c[1]) << c[0];
  }
}

TEST(ToolFormats, say_what_was_wrong) {
  const auto line = [](const char* format, const std::string& text) {
    try {
      find_tool_format(format)->parse(text, golden().at("tools"));
    } catch (const ToolCallError& error) {
      return std::string(error.what());
    }
    return std::string("nothing thrown");
  };
  EXPECT_EQ(line("json_tools", "{\"name\": \"f\""), "[tool call] json_tools: expected JSON, found '{\"name\": \"f\"'");
  EXPECT_EQ(line("qwen3_coder", ""), "[tool call] qwen3_coder: expected <function=name>, found nothing");
  EXPECT_EQ(line("qwen3_coder", "<function=get_weather><parameter=count>\nmany\n</parameter></function>"),
            "[tool call] qwen3_coder: 'count': expected a whole number, found 'many'");
  EXPECT_EQ(line("kimi_k2", std::string(100, 'x')),
            "[tool call] kimi_k2: expected functions.name:number<|tool_call_argument_begin|>, found '" +
                std::string(60, 'x') + "...'");
  EXPECT_EQ(line("gemma4", "call:f{a:1"), "[tool call] gemma4: 'f': expected more arguments and }, found nothing");
}

}  // namespace
}  // namespace mlx_lm::text
