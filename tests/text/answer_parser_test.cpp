#include "mlx_lm/text/answer_parser.h"

#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/text/tokenizer_wrapper.h"

#include "tests/text/tiny_tokenizer.h"

namespace mlx_lm::text {
namespace {

using nlohmann::json;
using Kind = AnswerPart::Kind;
using Ending = AnswerParser::Ending;

TokenizerWrapper tokenizer(const std::string& tool_parser, std::vector<std::string> tokens = {"<think>", "</think>"}) {
  json config = json::object();
  if (!tool_parser.empty()) config["tool_parser_type"] = tool_parser;
  tokens.insert(tokens.begin(), "<unk>");
  return TokenizerWrapper({.tokenizer = tiny_tokenizer(tokens, nullptr, int(tokens.size())),
                           .config = std::move(config),
                           .chat_template = "",
                           .eos_token_ids = {},
                           .where = "folder"});
}

struct Options {
  std::vector<std::string> stop_words = {};
  bool in_thinking = false;
  Ending ending = Ending::complete;
  json tools = nullptr;
};

// "kind:text" of each part, neighbours of a kind put together: where a text is cut is nobody's business.
std::vector<std::string> parts(const TokenizerWrapper& t, const std::vector<std::string>& pieces,
                               const Options& o = {}) {
  std::vector<std::string> shown;
  AnswerParser answer(t, o.tools, o.stop_words, o.in_thinking);
  Kind last = Kind::tool_call;
  const auto take = [&](const std::vector<AnswerPart>& next) {
    for (const auto& part : next) {
      EXPECT_FALSE(part.text.empty() && (part.kind == Kind::text || part.kind == Kind::reasoning));
      if (part.kind == Kind::tool_call) {
        shown.push_back("call:" + part.call.name + part.call.arguments);
      } else if (part.kind == Kind::malformed_call) {
        shown.push_back("malformed:" + part.text);
        EXPECT_TRUE(part.why.starts_with("[tool call] ")) << part.why;
      } else if (part.kind == last) {
        shown.back() += part.text;
      } else {
        shown.push_back((part.kind == Kind::reasoning ? "reasoning:" : "text:") + part.text);
      }
      last = part.kind;
    }
  };
  for (const auto& piece : pieces) take(answer.add(piece));
  take(answer.finish(o.ending));
  return shown;
}

using Parts = std::vector<std::string>;
const std::string kCall = R"(<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>)";

TEST(AnswerParser, takes_an_answer_apart) {
  const auto t = tokenizer("json_tools");
  const Parts expected = {"reasoning:hm", "text:Well. ", R"(call:f{"a": 1})", "text: and ", R"(call:f{"a": 1})"};
  EXPECT_EQ(parts(t, {"<think>hm</think>Well. " + kCall + " and " + kCall}), expected);
  EXPECT_EQ(parts(t, {"hm</think>Well. " + kCall + " and " + kCall}, {.in_thinking = true}), expected);
  EXPECT_EQ(parts(t, {"<think>a" + kCall + "b"}), (Parts{"reasoning:a", R"(call:f{"a": 1})", "text:b"}));
  EXPECT_EQ(parts(t, {kCall + kCall}), (Parts{R"(call:f{"a": 1})", R"(call:f{"a": 1})"}));
  EXPECT_EQ(parts(t, {"plain"}), (Parts{"text:plain"}));
  EXPECT_EQ(parts(t, {""}), Parts{});
}

TEST(AnswerParser, gives_the_same_whatever_the_pieces) {
  const auto t = tokenizer("json_tools");
  std::mt19937 random(3);
  const std::vector<std::string> all = {"<think>", "</think>", "<tool_call>", "</tool_call>", kCall,       "é😀", "<th",
                                        "STOP",    "ST",       " words ",     "</",           "{\"name\"", "\n"};
  for (int i = 0; i < 1000; ++i) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n) text += all[random() % all.size()];
    Options options{.stop_words = {"STOP", "\n\n"}, .in_thinking = random() % 2 == 0};
    if (random() % 2) options.ending = Ending::stopped;
    Parts pieces;
    for (size_t at = 0; at < text.size(); at += pieces.back().size())
      pieces.push_back(text.substr(at, 1 + random() % 4));
    EXPECT_EQ(parts(t, pieces, options), parts(t, {text}, options)) << text;
  }
}

TEST(AnswerParser, knows_only_the_markers_of_its_model) {
  EXPECT_EQ(parts(tokenizer("", {}), {"<think>a</think>" + kCall}), (Parts{"text:<think>a</think>" + kCall}));
  EXPECT_EQ(parts(tokenizer("mistral", {}), {"a[TOOL_CALLS]f[ARGS]{\"b\": 2}", "[TOOL_CALLS]g[ARGS]{}"}),
            (Parts{"text:a", R"(call:f{"b": 2})", "call:g{}"}))
      << "no end marker: up to the end";
  EXPECT_EQ(parts(tokenizer("gemma4", {"<|channel>", "<channel|>"}),
                  {"<|channel>thought\nhm<channel|>ok<|tool_call>call:f{a:<|\"|>x<|\"|>}<tool_call|>"}),
            (Parts{"reasoning:\nhm", "text:ok", R"(call:f{"a": "x"})"}));
  EXPECT_EQ(parts(tokenizer("", {"<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"}),
                  {"<|open|>think<|sep|>hm<|close|>think<|sep|><|open|>response<|sep|>ok<|close|>response<|sep|>"}),
            (Parts{"reasoning:hm", "text:ok"}));
}

TEST(AnswerParser, ends_at_a_stop_word) {
  const auto t = tokenizer("json_tools");
  AnswerParser answer(t, nullptr, {"STOP", "", "\n\n"}, false);
  EXPECT_EQ(answer.add("one ST").at(0).text, "one ");
  EXPECT_FALSE(answer.stopped());
  EXPECT_TRUE(answer.add("OP two").empty());
  EXPECT_TRUE(answer.stopped());
  EXPECT_TRUE(answer.add("three").empty());
  EXPECT_TRUE(answer.finish(Ending::complete).empty());
  const Options stop{.stop_words = {"STOP"}};
  EXPECT_EQ(parts(t, {"<think>aSTOPb</think>c"}, stop), (Parts{"reasoning:a"}));
  EXPECT_EQ(parts(t, {R"(<tool_call>{"name": "f", "arguments": {}}STOP)"}, stop), (Parts{"call:f{}"}));
  EXPECT_EQ(parts(t, {"aSTSTOP"}, stop), (Parts{"text:aST"}));
  EXPECT_THROW(AnswerParser(t, nullptr, {std::string(TextStateMachine::kMaxBytes, 'x')}, false), RequestError);
}

TEST(AnswerParser, keeps_or_drops_what_may_have_become_a_stop_word) {
  const auto t = tokenizer("json_tools");
  EXPECT_EQ(parts(t, {"one ST"}, {.stop_words = {"STOP"}}), (Parts{"text:one ST"}));
  EXPECT_EQ(parts(t, {"one ST"}, {.stop_words = {"STOP"}, .ending = Ending::stopped}), (Parts{"text:one "}));
  EXPECT_EQ(parts(t, {"1 <"}), (Parts{"text:1 <"}));
}

TEST(AnswerParser, shows_calls_that_it_cannot_read) {
  const auto t = tokenizer("json_tools");
  EXPECT_EQ(parts(t, {"a<tool_call>{]</tool_call>b"}), (Parts{"text:a", "malformed:{]", "text:b"}));
  EXPECT_EQ(parts(t, {R"(<tool_call>{"name": "f", "arg)"}), (Parts{R"(malformed:{"name": "f", "arg)"})) << "cut off";
  EXPECT_EQ(parts(t, {R"(<tool_call>{"name": "f", "arguments": {}})"}), (Parts{"call:f{}"})) << "no end marker";
  EXPECT_EQ(parts(t, {"a<tool_call>"}), (Parts{"text:a"}));
  AnswerParser answer(t, nullptr, {}, false);
  answer.add("<tool_call>{]</tool_call>");
  EXPECT_FALSE(answer.has_tool_calls());
  answer.add(kCall);
  EXPECT_TRUE(answer.has_tool_calls());
}

TEST(AnswerParser, types_arguments_by_the_tools) {
  const auto t = tokenizer("qwen3_coder");
  const json tools = {
      {{"function", {{"name", "f"}, {"parameters", {{"properties", {{"n", {{"type", "integer"}}}}}}}}}}};
  const std::string text = "<tool_call>\n<function=f>\n<parameter=n>\n5\n</parameter>\n</function>\n</tool_call>";
  EXPECT_EQ(parts(t, {text}, {.tools = tools}), (Parts{R"(call:f{"n": 5})"}));
  EXPECT_EQ(parts(t, {text}), (Parts{R"(call:f{"n": "5"})"}));
}

}  // namespace
}  // namespace mlx_lm::text
