// mlx_lm benchmark on a tiny random model.
#include <regex>

#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/load/tiny_model.h"

namespace {

using Arguments = Program::Arguments;
using nlohmann::json;

class BenchmarkTest : public testing::Test {
 protected:
  BenchmarkTest() { TinyModel().write(folder_); }

  Ended run(const Arguments& more, const std::vector<std::string>& environment = {}) const {
    Arguments all = {"benchmark", "--model", folder_.path().string(), "-p", "16", "-g", "8", "-n", "2"};
    all.insert(all.end(), more.begin(), more.end());
    Program program;
    program.environment = environment;
    return program.run(all);
  }
  json object(const Arguments& more, const std::vector<std::string>& environment = {}) const {
    Arguments all = {"--json"};
    all.insert(all.end(), more.begin(), more.end());
    const auto ended = run(all, environment);
    EXPECT_EQ(ended.status, 0) << ended.err;
    EXPECT_EQ(ended.err, "");
    return json::parse(ended.out);
  }
  void refused(const Arguments& more, const std::string& text) const {
    const auto ended = run(more);
    EXPECT_EQ(ended.status, 1);
    EXPECT_EQ(ended.out, "");
    EXPECT_EQ(ended.err, "mlx_lm: " + text + "\n");
  }

  TempFolder folder_;
};

const std::string kNumber = R"(\d+\.\d{3})";
const std::string kSpeeds = "prompt_tps=" + kNumber + ", generation_tps=" + kNumber + ", peak_memory=" + kNumber;

TEST_F(BenchmarkTest, WritesWhatMlxLmWrites) {
  const auto ended = run({});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  const std::regex lines(
      "Running warmup\\.\\.\n"
      "Timing with prompt_tokens=16, generation_tokens=8, batch_size=1\\.\n"
      "Trial 1:  " +
      kSpeeds + ", total_time=" + kNumber +
      "\n"
      "Trial 2:  " +
      kSpeeds + ", total_time=" + kNumber +
      "\n"
      "Averages: " +
      kSpeeds +
      "\n"
      "Time to first token: " +
      kNumber +
      " s\n"
      "Machine: read \\d+\\.\\d GB/s, float32 \\d+ GOP/s \\(\\d+ threads?, \\w+\\)\\. "
      "Generation: \\d+ % of the bandwidth; prompt: \\d+ % of peak operations\n");
  EXPECT_TRUE(std::regex_match(ended.out, lines)) << ended.out;
  const auto batch = run({"-b", "3", "-n", "1", "--prefill-step-size", "5"});
  EXPECT_EQ(batch.status, 0) << batch.err;
  EXPECT_NE(batch.out.find("batch_size=3."), std::string::npos) << batch.out;
}

TEST_F(BenchmarkTest, GivesAnObject) {
  const auto all = object({"-n", "3", "--threads", "3", "--cpu-activations", "int8"});
  EXPECT_EQ(all["model"], folder_.path().string());
  EXPECT_EQ(all["prompt_tokens"], 16);
  EXPECT_EQ(all["generation_tokens"], 8);
  EXPECT_EQ(all["batch_size"], 1);
  EXPECT_EQ(all["prefill_step_size"], 2048);
  ASSERT_EQ(all["trials"].size(), 3u);
  for (const char* key : {"prompt_tps", "generation_tps", "peak_memory", "total_time", "time_to_first_token"}) {
    double sum = 0;
    for (const auto& trial : all["trials"]) {
      EXPECT_GT(trial[key].get<double>(), 0) << key;
      sum += trial[key].get<double>();
    }
    EXPECT_NEAR(all["averages"][key].get<double>(), sum / 3, 1e-6 * sum) << key;
  }
  const auto& machine = all["machine"];
  EXPECT_EQ(machine["threads"], 3);
  EXPECT_EQ(machine["activations"], "int8");
  EXPECT_GT(machine["read_bytes_per_second"].get<double>(), 0);
  for (const char* kind : {"int8", "int16", "float32"}) {
    EXPECT_GT(machine["operations_per_second"][kind].get<double>(), 0) << kind;
  }
  EXPECT_GT(machine["generation_share"].get<double>(), 0);
  EXPECT_GT(machine["prompt_share"].get<double>(), 0);
}

TEST_F(BenchmarkTest, FlagsComeBeforeTheEnvironment) {
  EXPECT_EQ(object({"--threads", "2"}, {"MLX_LM_THREADS=4"})["machine"]["threads"], 2);
  EXPECT_EQ(object({}, {"MLX_LM_THREADS=4"})["machine"]["threads"], 4);
  EXPECT_EQ(object({"--cpu-activations", "float"}, {"MLX_LM_ACTIVATIONS=int8"})["machine"]["activations"], "float32");
  EXPECT_EQ(object({}, {"MLX_LM_ACTIVATIONS=int8"})["machine"]["activations"], "int8");
  EXPECT_EQ(object({})["machine"]["activations"], "int16");
}

TEST_F(BenchmarkTest, KnowsNoLimitsOfMlxsOwnOperations) {
  EXPECT_TRUE(object({}, {"MLX_LM_OPS=mlx"})["machine"].is_null());
  EXPECT_EQ(run({}, {"MLX_LM_OPS=mlx"}).out.find("Machine"), std::string::npos);
}

TEST_F(BenchmarkTest, RefusesWhatMakesNoSense) {
  refused({"-p", "0"}, "[benchmark] prompt-tokens: expected a number from 1 to 16777216, found 0");
  refused({"-g", "-1"}, "[benchmark] generation-tokens: expected a number from 1 to 16777216, found -1");
  refused({"-b", "0"}, "[benchmark] batch-size: expected a number from 1 to 16777216, found 0");
  refused({"-n", "0"}, "[benchmark] num-trials: expected at least 1, found 0");
  refused({"--delay", "-1"}, "[benchmark] delay: expected at least 0, found -1");
  refused({"--threads", "0"}, "[cpu] threads: expected a whole number from 1 to 256, found 0");
}

TEST_F(BenchmarkTest, SaysWhenNobodyReads) {
  Program program;
  program.output = "/dev/full";
  const auto ended = program.run({"benchmark", "--model", folder_.path().string(), "-p", "4", "-g", "2", "-n", "1"});
  EXPECT_EQ(ended.status, 1);
  EXPECT_EQ(ended.err, "mlx_lm: [benchmark] the result could not be written to standard output\n");
}

}  // namespace
