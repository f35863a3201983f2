// mlx_lm generate on the default model, as a first user runs it.
#include <regex>

#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace {

Ended ask(const Program::Arguments& more, const std::string& input = "") {
  Program program;
  program.input = input;
  Program::Arguments all = {"generate"};
  all.insert(all.end(), more.begin(), more.end());
  auto ended = program.run(all);
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.err, "");
  return ended;
}

const std::string kQuestion = "What is the capital of France?", kAnswer = "The capital of France is Paris.";

TEST(GenerateReal, Answers) {
  const auto ended = ask({"--prompt", kQuestion});
  EXPECT_TRUE(std::regex_match(ended.out, std::regex("==========\n" + kAnswer + R"(
==========
Prompt: 37 tokens, \d+\.\d{3} tokens-per-sec
Generation: 8 tokens, \d+\.\d{3} tokens-per-sec
Peak memory: \d+\.\d{3} GB
)"))) << ended.out;
}

TEST(GenerateReal, TakesThePromptFromStandardInput) {
  EXPECT_EQ(ask({"-p", "-", "--verbose", "false"}, kQuestion).out, kAnswer + "\n");
}

TEST(GenerateReal, ContinuesAnAnswer) {
  EXPECT_EQ(ask({"-p", kQuestion, "--prefill-response", "The capital of France", "--verbose", "false"}).out,
            "is Paris.\n");  // the space at the start is the detokenizer's to drop, as in mlx-lm
}

TEST(GenerateReal, EndsAtAnExtraToken) {
  EXPECT_EQ(ask({"-p", kQuestion, "--extra-eos-token", "ĠParis", "--verbose", "false"}).out,
            "The capital of France is\n");
}

TEST(GenerateReal, ContinuesARawText) {
  const auto ended = ask({"-p", "The capital of France is", "--ignore-chat-template", "-m", "2", "--verbose", "false"});
  EXPECT_NE(ended.out.find("Paris"), std::string::npos) << ended.out;
}

TEST(GenerateReal, RepeatsItselfForASeed) {
  const Program::Arguments drawn = {"-p", "Hi", "--temp", "1", "--top-p", "0.9", "--seed", "3", "-m", "12"};
  auto text = [&] {
    const auto out = ask(drawn).out;
    return out.substr(0, out.find("\nPrompt: "));
  };
  EXPECT_EQ(text(), text());
}

}  // namespace
