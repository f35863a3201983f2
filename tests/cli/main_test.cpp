#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace {

// Bad usage: status 2, something on standard error, nothing on standard output.
void expect_bad_usage(const Program::Arguments& arguments, const std::string& named) {
  const auto ended = Program().run(arguments);
  EXPECT_EQ(ended.status, 2) << named;
  EXPECT_EQ(ended.out, "") << named;
  EXPECT_NE(ended.err.find(named), std::string::npos) << ended.err;
}

TEST(Main, Helps) {
  const auto all = Program().run({"--help"});
  EXPECT_EQ(all.status, 0);
  EXPECT_EQ(all.err, "");
  EXPECT_NE(all.out.find("generate"), std::string::npos);
  const auto generate = Program().run({"generate", "--help"});
  EXPECT_EQ(generate.status, 0);
  EXPECT_EQ(generate.err, "");
  for (const char* flag : {"--model",
                           "--extra-eos-token",
                           "--system-prompt",
                           "-p,--prompt",
                           "--prefill-response",
                           "-m,--max-tokens",
                           "--temp",
                           "--top-p",
                           "--min-p",
                           "--top-k",
                           "--xtc-probability",
                           "--xtc-threshold",
                           "--min-tokens-to-keep",
                           "--seed",
                           "--ignore-chat-template",
                           "--chat-template-config",
                           "--verbose",
                           "--max-kv-size",
                           "--prefill-step-size",
                           "--threads",
                           "--cpu-activations"}) {
    EXPECT_NE(generate.out.find(flag), std::string::npos) << flag;
  }
  EXPECT_EQ(Program().run({"generate", "-h"}).out, generate.out);

  EXPECT_NE(all.out.find("benchmark"), std::string::npos);
  const auto benchmark = Program().run({"benchmark", "--help"});
  EXPECT_EQ(benchmark.status, 0);
  for (const char* flag : {"--model", "--threads", "--cpu-activations", "-p,--prompt-tokens", "-g,--generation-tokens",
                           "-b,--batch-size", "-n,--num-trials", "--prefill-step-size", "--delay", "--json"}) {
    EXPECT_NE(benchmark.out.find(flag), std::string::npos) << flag;
  }

  EXPECT_NE(all.out.find("perplexity"), std::string::npos);
  const auto perplexity = Program().run({"perplexity", "--help"});
  EXPECT_EQ(perplexity.status, 0);
  for (const char* flag : {"--model", "--threads", "--cpu-activations", "--data-path", "--batch-size",
                           "--sequence-length", "--num-samples", "--seed", "--json"}) {
    EXPECT_NE(perplexity.out.find(flag), std::string::npos) << flag;
  }
}

TEST(Main, TellsItsVersion) {
  const auto ended = Program().run({"--version"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.err, "");
  EXPECT_TRUE(std::isdigit(static_cast<unsigned char>(ended.out.at(0)))) << ended.out;
  EXPECT_EQ(std::count(ended.out.begin(), ended.out.end(), '\n'), 1);
}

TEST(Main, RefusesBadUsage) {
  expect_bad_usage({}, "subcommand");
  expect_bad_usage({"generat"}, "");
  expect_bad_usage({""}, "");
  expect_bad_usage({"--bogus"}, "");
  expect_bad_usage({"generate", "--bogus"}, "--bogus");
  expect_bad_usage({"generate", "word"}, "word");
  expect_bad_usage({"generate", "generate"}, "");
  expect_bad_usage({"generate", "--prompt"}, "--prompt");
  expect_bad_usage({"generate", "--verbose"}, "--verbose");
  for (const char* flag : {"--max-tokens", "--temp", "--top-p", "--top-k", "--min-p", "--seed", "--max-kv-size"}) {
    expect_bad_usage({"generate", flag}, flag);
    expect_bad_usage({"generate", flag, "many"}, flag);
    expect_bad_usage({"generate", flag, ""}, flag);
  }
  for (const char* kind : {"", "int4", "float64", "INT8"}) {
    expect_bad_usage({"generate", "--cpu-activations", kind}, "--cpu-activations");
  }
  for (const char* flag :
       {"--max-tokens", "--top-k", "--max-kv-size", "--threads", "--prefill-step-size", "--min-tokens-to-keep"}) {
    expect_bad_usage({"generate", flag, "1.5"}, flag);
    expect_bad_usage({"generate", flag, "99999999999"}, flag);
  }
}

TEST(Main, RefusesBadUsageOfBenchmark) {
  for (const char* flag : {"-p", "-g", "-b", "-n", "--prefill-step-size", "--delay", "--threads"}) {
    expect_bad_usage({"benchmark", flag}, "");
    expect_bad_usage({"benchmark", flag, "1.5"}, "");
    expect_bad_usage({"benchmark", flag, ""}, "");
  }
  expect_bad_usage({"benchmark", "--prompt", "hello"}, "--prompt");
  expect_bad_usage({"benchmark", "generate"}, "");
}

TEST(Main, TakesTheSubcommandFromItsName) {
  TempFolder folder;
  const auto link = folder.path() / "mlx_lm.generate";
  std::filesystem::create_symlink(MLX_LM_PROGRAM, link);
  const auto ended = Program(link).run({"--help"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.out, Program().run({"generate", "--help"}).out);
  // Other names with a dot are only names.
  for (const char* name : {"mlx_lm-0.1.0", "mlx.generate"}) {
    std::filesystem::create_symlink(MLX_LM_PROGRAM, folder.path() / name);
    EXPECT_EQ(Program(folder.path() / name).run({"--version"}).status, 0) << name;
  }
  std::filesystem::create_symlink(MLX_LM_PROGRAM, folder.path() / "mlx_lm.nothing");
  EXPECT_EQ(Program(folder.path() / "mlx_lm.nothing").run({}).status, 2);
}

}  // namespace
