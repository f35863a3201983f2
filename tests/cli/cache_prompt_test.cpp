// mlx_lm cache_prompt on the default model, and mlx_lm generate from what it saved.
#include <filesystem>
#include <regex>

#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace {

class CachePrompt : public testing::Test {
 protected:
  std::string file(const std::string& name = "cache.safetensors") const { return (folder_.path() / name).string(); }

  static Ended run(const std::string& command, const Program::Arguments& more, const std::string& input = "") {
    Program program;
    program.input = input;
    Program::Arguments all = {command};
    all.insert(all.end(), more.begin(), more.end());
    return program.run(all);
  }
  Ended save(const std::string& prompt, Program::Arguments more = {}) const {
    more.insert(more.end(), {"--prompt", prompt, "--prompt-cache-file", file()});
    return run("cache_prompt", more);
  }
  Ended ask(const std::string& prompt, Program::Arguments more = {}) const {
    more.insert(more.end(), {"-p", prompt, "--prompt-cache-file", file(), "--verbose", "false"});
    return run("generate", more);
  }

  TempFolder folder_;
};

const std::string kBegin = "What is the capital", kEnd = " of France?", kAnswer = "The capital of France is Paris.\n";

TEST_F(CachePrompt, SavesWhatGenerateGoesOnFrom) {
  const auto saved = save(kBegin);
  EXPECT_EQ(saved.status, 0) << saved.err;
  EXPECT_EQ(saved.err, "");
  EXPECT_TRUE(std::regex_match(saved.out, std::regex(R"((\rProcessed +\d+ tokens \( *\d+\.\d\d tok/s\) *)+
Peak memory: \d+\.\d{3} GB
Saving\.\.\.
)"))) << saved.out;
  for (int i = 0; i < 2; ++i) {  // the file stays as it is
    const auto answer = ask(kEnd);
    EXPECT_EQ(answer.status, 0) << answer.err;
    EXPECT_EQ(answer.out, kAnswer);
  }
  const auto verbose = run("generate", {"-p", kEnd, "--prompt-cache-file", file()});
  EXPECT_TRUE(std::regex_search(verbose.out, std::regex("Prompt: \\d tokens,"))) << verbose.out;
}

TEST_F(CachePrompt, SavesEveryKindOfCache) {
  for (const Program::Arguments& flags :
       {Program::Arguments{"--max-kv-size", "64"},
        {"--kv-bits", "8", "--kv-group-size", "32", "--quantized-kv-start", "0"},
        {"--kv-bits", "8", "--kv-group-size", "32", "--quantized-kv-start", "0", "--max-kv-size", "64"}}) {
    EXPECT_EQ(save(kBegin, flags).status, 0);
    EXPECT_EQ(ask(kEnd).out, kAnswer) << flags[0];
  }
}

TEST_F(CachePrompt, TakesThePromptFromStandardInput) {
  EXPECT_EQ(run("cache_prompt", {"--prompt", "-", "--prompt-cache-file", file()}, kBegin).status, 0);
  EXPECT_EQ(ask(kEnd).out, kAnswer);
}

TEST_F(CachePrompt, KeepsAnEndToken) {
  EXPECT_EQ(save(kBegin, {"--eos-token", "ĠParis"}).status, 0);
  EXPECT_EQ(ask(kEnd).out, "The capital of France is\n");
}

TEST_F(CachePrompt, RefusesWhatDoesNotFitTheFile) {
  EXPECT_EQ(save(kBegin, {"--kv-bits", "8", "--quantized-kv-start", "0"}).status, 0);
  const auto refused = [&](const Program::Arguments& more) {
    const auto ended = ask(kEnd, more);
    EXPECT_EQ(ended.status, 1);
    EXPECT_EQ(ended.out, "");
    return ended.err;
  };
  EXPECT_EQ(refused({"--kv-bits", "4"}), "mlx_lm: [generate] kv-bits: expected 8, as " + file() + " has, found 4\n");
  EXPECT_EQ(refused({"--kv-bits", "8", "--kv-group-size", "32"}),
            "mlx_lm: [generate] kv-group-size: expected 64, as " + file() + " has, found 32\n");
  const auto model = refused({"--model", "another/model"});
  EXPECT_TRUE(model.starts_with("mlx_lm: [generate] model: expected ")) << model;
  EXPECT_TRUE(model.ends_with("found another/model\n")) << model;
  std::ofstream(file()) << "not a cache";
  EXPECT_NE(refused({}).find(file()), std::string::npos);
  std::filesystem::remove(file());
  EXPECT_NE(refused({}).find(file()), std::string::npos);
}

TEST_F(CachePrompt, RefusesWhatMakesNoSense) {
  EXPECT_EQ(run("cache_prompt", {"--prompt", "x"}).status, 2);
  EXPECT_EQ(run("cache_prompt", {"--prompt-cache-file", file()}).status, 2);
  EXPECT_EQ(save("").err, "mlx_lm: [cache_prompt] prompt: expected a text, found nothing\n");
  EXPECT_EQ(save("x", {"--kv-bits", "7"}).err, "mlx_lm: [cache] kv-bits: expected 2, 3, 4, 5, 6 or 8, found 7\n");
  EXPECT_EQ(save("x", {"--kv-bits", "8", "--kv-group-size", "128", "--quantized-kv-start", "0"}).err,
            "mlx_lm: [cache] kv-group-size: expected a divisor of the head size of this model, 64, found 128\n");
  EXPECT_EQ(run("cache_prompt", {"--prompt", "x", "--prompt-cache-file", file("no/such/folder")}).status, 1);
  EXPECT_FALSE(std::filesystem::exists(file()));
}

}  // namespace
