// mlx_lm perplexity on a tiny random model, whose tokens are bytes.
#include <regex>

#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/load/tiny_model.h"

namespace {

using Arguments = Program::Arguments;
using nlohmann::json;

class PerplexityTest : public testing::Test {
 protected:
  PerplexityTest() {
    TinyModel().write(folder_);
    folder_.write("text.txt", "Forty-nine letters stand here, the last is left ou");
  }

  Ended run(const Arguments& more, const std::string& data = "text.txt") const {
    Arguments all = {"perplexity", "--model", folder_.path().string(), "--data-path", (folder_.path() / data).string()};
    all.insert(all.end(), more.begin(), more.end());
    return Program().run(all);
  }
  json object(Arguments more, const std::string& data = "text.txt") const {
    more.push_back("--json");
    const auto ended = run(more, data);
    EXPECT_EQ(ended.status, 0) << ended.err;
    EXPECT_EQ(ended.err, "");
    return json::parse(ended.out);
  }
  void refused(const Arguments& more, const std::string& text, const std::string& data = "text.txt") const {
    const auto ended = run(more, data);
    EXPECT_EQ(ended.status, 1);
    EXPECT_EQ(ended.out, "");
    EXPECT_EQ(ended.err, "mlx_lm: " + text + "\n");
  }

  TempFolder folder_;
};

TEST_F(PerplexityTest, WritesWhatMlxLmWrites) {
  const auto ended = run({"--sequence-length", "16", "--batch-size", "2"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  const auto folder = folder_.path().string();
  const std::string start = "Loading model from " + folder +
                            "...\nModel loaded: 0.0M parameters\n\nLoading dataset...\n  Sequence length: 16\n"
                            "  Loaded 3 samples\n\nEvaluating perplexity with batch size 2...\n"
                            "  Processed 1/2 batches...\r  Processed 2/2 batches...\r\n\n";
  ASSERT_TRUE(ended.out.starts_with(start)) << ended.out;
  const std::string rule(60, '=');
  const std::regex block(rule + "\nEVALUATION RESULTS\n" + rule + "\nModel: " + folder + R"(
Perplexity: \d+\.\d{3} ± \d+\.\d{3}
Evaluation time: \d+\.\d{2} seconds
Peak memory: \d+\.\d{2} GB
Tokens per second: \d+

Dataset statistics:
  Total samples: 3
  Total tokens: 48
)");
  EXPECT_TRUE(std::regex_match(ended.out.substr(start.size()), block)) << ended.out;
}

TEST_F(PerplexityTest, GivesAnObject) {
  const auto all = object({"--sequence-length", "16"});
  EXPECT_EQ(all["model"], folder_.path().string());
  EXPECT_EQ(all["data_path"], (folder_.path() / "text.txt").string());
  EXPECT_EQ(all["samples"], 3);
  EXPECT_EQ(all["tokens"], 48);
  EXPECT_EQ(all["sequence_length"], 16);
  EXPECT_EQ(all["batch_size"], 8);
  EXPECT_EQ(all["parameters"], 258 * 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32) + 32);
  EXPECT_GT(all["perplexity"].get<double>(), 1);
  EXPECT_GT(all["standard_error"].get<double>(), 0);
  for (const char* key : {"evaluation_time", "peak_memory", "tokens_per_second"}) EXPECT_GT(all[key].get<double>(), 0);
  // The same numbers in other batches, and others for other data.
  const auto again = object({"--sequence-length", "16", "--batch-size", "1", "--threads", "1"});
  EXPECT_NEAR(again["perplexity"].get<double>(), all["perplexity"].get<double>(), 1e-3);
  EXPECT_EQ(object({"--sequence-length", "16", "--num-samples", "1"})["tokens"], 16);
  EXPECT_EQ(object({"--sequence-length", "24", "--num-samples", "-1"})["samples"], 2);
}

TEST_F(PerplexityTest, TakesRecordsInASeededOrder) {
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += json{{"text", "record number " + std::string(1, char('A' + i))}}.dump() + "\n";
  folder_.write("data.jsonl", lines);
  const Arguments some = {"--sequence-length", "16", "--num-samples", "3"};
  const auto with_seed = [&](const char* seed) {
    auto more = some;
    more.insert(more.end(), {"--seed", seed});
    return object(more, "data.jsonl")["perplexity"];
  };
  EXPECT_EQ(with_seed("123"), object(some, "data.jsonl")["perplexity"]);
  EXPECT_NE(with_seed("1"), with_seed("123"));
}

TEST_F(PerplexityTest, RefusesWhatMakesNoSense) {
  const auto path = [&](const char* name) { return (folder_.path() / name).string(); };
  refused({}, "[perplexity] data-path: expected a .txt or .jsonl file, found nothing at '" + path("none.txt") + "'",
          "none.txt");
  refused({}, "[perplexity] data-path: expected a .txt or .jsonl file, found '" + path("config.json") + "'",
          "config.json");
  refused({"--batch-size", "0"}, "[perplexity] batch-size: expected at least 1, found 0");
  refused({"--sequence-length", "1"}, "[perplexity] sequence-length: expected at least 2, found 1");
  refused({"--num-samples", "0"}, "[perplexity] num-samples: expected at least 1, or -1 for all, found 0");
  // What needs the tokenizer is known later.
  const auto ended = run({});
  EXPECT_EQ(ended.status, 1);
  EXPECT_EQ(ended.err, "mlx_lm: [perplexity] " + path("text.txt") + ": expected at least 512 tokens, found 50\n");
  EXPECT_EQ(Program().run({"perplexity"}).status, 2);
  EXPECT_EQ(run({"--seed", "-1"}).status, 2);
  EXPECT_EQ(run({"--seed", "4294967296"}).status, 2);
}

TEST_F(PerplexityTest, SaysWhenNobodyReads) {
  Program program;
  program.output = "/dev/full";
  const auto ended = program.run({"perplexity", "--model", folder_.path().string(), "--data-path",
                                  (folder_.path() / "text.txt").string(), "--sequence-length", "8", "--json"});
  EXPECT_EQ(ended.status, 1);
  EXPECT_EQ(ended.err, "mlx_lm: [perplexity] the result could not be written to standard output\n");
}

}  // namespace
