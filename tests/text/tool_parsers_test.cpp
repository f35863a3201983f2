// The formats against mlx-lm's parsers (tests/golden/dump_tool_calls.py), and what a hostile text may not do.
#include "mlx_lm/text/tool_parsers.h"

#include <fstream>
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

// Calls as the golden file has them, the arguments as values: the order of keys counts, the spelling of numbers does not.
ordered_json values(ordered_json calls) {
  if (calls.is_null()) return calls;
  for (auto& call : calls) call[1] = ordered_json::parse(call[1].get<std::string>());
  return calls;
}

ordered_json parsed(const ToolFormat& format, const std::string& text, const json& tools) {
  try {
    auto calls = ordered_json::array();
    for (const auto& call : format.parse(text, tools)) {
      calls.push_back({call.name, call.arguments, call.id.empty() ? ordered_json() : ordered_json(call.id)});
    }
    return values(calls);
  } catch (const ToolCallError& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("[tool call] ")) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return nullptr;
  }
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

}  // namespace
}  // namespace mlx_lm::text
