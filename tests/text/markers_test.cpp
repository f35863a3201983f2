// Against what mlx-lm infers from the same vocabularies (tests/golden/dump_tool_formats.py).
#include "mlx_lm/text/markers.h"

#include <fstream>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/text/tokenizer_wrapper.h"

#include "tests/text/tiny_tokenizer.h"

namespace mlx_lm::text {
namespace {

using nlohmann::json;

// Tokens from 1 on, all special; then "thought", "think" and "a".
TokenizerWrapper wrapper(std::vector<std::string> tokens, json config = json::object(),
                         std::string chat_template = "") {
  tokens.insert(tokens.begin(), "<unk>");
  const int special = int(tokens.size());
  tokens.insert(tokens.end(), {"thought", "think", "a"});
  return TokenizerWrapper({.tokenizer = tiny_tokenizer(tokens, nullptr, special),
                           .config = std::move(config),
                           .chat_template = std::move(chat_template),
                           .eos_token_ids = {},
                           .where = "folder"});
}

TEST(Markers, are_those_that_mlx_lm_finds) {
  const auto golden = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/tool_formats.json"));
  ASSERT_GE(golden.at("vocabularies").size(), 60u);
  for (const auto& c : golden.at("vocabularies")) {
    const auto t = wrapper(c[0].get<std::vector<std::string>>());
    const auto thinking = t.thinking() ? json::array({t.thinking()->start, t.thinking()->end}) : json();
    EXPECT_EQ(thinking, c[2]) << c[0];
    EXPECT_EQ(t.has_thinking(), !c[2].is_null());
    EXPECT_EQ(t.has_tool_calling() ? json(t.tool_format()->name) : json(), c[1]) << c[0];
    EXPECT_EQ(t.tool_calling().has_value(), t.has_tool_calling());
  }
}

TEST(Markers, have_the_ids_of_their_tokens) {
  const auto t = wrapper({"<think>", "</think>", "<tool_call>", "</tool_call>"}, {{"tool_parser_type", "json_tools"}});
  EXPECT_EQ(t.thinking()->start_ids, (std::vector<int>{1}));
  EXPECT_EQ(t.thinking()->end_ids, (std::vector<int>{2}));
  EXPECT_EQ(t.tool_calling()->start_ids, (std::vector<int>{3}));
  EXPECT_EQ(t.tool_calling()->end_ids, (std::vector<int>{4}));
  const auto channels = wrapper({"<|channel>", "<channel|>"});
  EXPECT_EQ(channels.thinking()->start_ids, (std::vector<int>{1, 3}));
  EXPECT_EQ(channels.thinking()->end_ids, (std::vector<int>{2}));
  EXPECT_TRUE(wrapper({}, {{"tool_parser_type", "mistral"}}).tool_calling()->end_ids.empty());
}

TEST(Markers, say_whether_a_prompt_ends_in_thinking) {
  const auto t = wrapper({"<think>", "</think>"});
  const auto ends = [&](std::vector<int> ids) { return t.ends_in_thinking(ids); };
  EXPECT_FALSE(ends({}));
  EXPECT_FALSE(ends({3}));
  EXPECT_TRUE(ends({3, 1}));
  EXPECT_TRUE(ends({1, 3, 2, 1, 3}));
  EXPECT_FALSE(ends({1, 3, 2, 3}));
  EXPECT_FALSE(ends({2}));
  const auto channels = wrapper({"<|channel>", "<channel|>"});
  EXPECT_TRUE(channels.ends_in_thinking(std::vector<int>{1, 3}));
  EXPECT_FALSE(channels.ends_in_thinking(std::vector<int>{1, 4, 3})) << "a channel of another name";
  EXPECT_FALSE(wrapper({}).ends_in_thinking(std::vector<int>{1, 2, 3}));
}

TEST(Markers, take_the_tool_parser_that_the_tokenizer_names) {
  const std::string shown = "[TOOL_CALLS]";
  EXPECT_EQ(wrapper({}, json::object(), shown).tool_format()->name, "mistral");
  EXPECT_EQ(wrapper({}, {{"tool_parser_type", "laguna"}}, shown).tool_format()->name, "laguna");
  EXPECT_EQ(wrapper({}, {{"tool_parser_type", nullptr}}, shown).tool_format()->name, "mistral");
  EXPECT_THROW(wrapper({}, {{"tool_parser_type", "nope"}}), ConfigError);
  EXPECT_THROW(wrapper({}, {{"tool_parser_type", 5}}), ConfigError);
}

TEST(Markers, tell_the_template_whether_the_model_thinks) {
  const json hello = {{{"role", "user"}, {"content", "Hi"}}};
  const std::string source = "{{ enable_thinking }}";
  EXPECT_EQ(wrapper({"<think>", "</think>"}, json::object(), source).apply_chat_template(hello, {}), "True");
  EXPECT_EQ(wrapper({}, json::object(), source).apply_chat_template(hello, {}), "False");
  const auto t = wrapper({"<think>", "</think>"}, json::object(), source);
  EXPECT_EQ(t.apply_chat_template(hello, {.extra = {{"enable_thinking", false}}}), "False");
}

}  // namespace
}  // namespace mlx_lm::text
