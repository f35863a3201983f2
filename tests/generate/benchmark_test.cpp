#include "mlx_lm/generate/benchmark.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

// A model that remembers what it was asked, on top of a golden case.
class Recorder final : public models::LanguageModel {
 public:
  explicit Recorder(const models::LanguageModel& model)
      : LanguageModel(nn::Weights({}, {}, "none", mx::float32)), model_(model) {}
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    shapes.push_back(tokens.shape());
    auto logits = model_(tokens, caches);
    if (tokens.shape(1) == 1) steps.push_back(tokens);
    return logits;
  }
  int num_layers() const override { return model_.num_layers(); }
  int vocab_size() const override { return model_.vocab_size(); }
  cache::KVCaches make_cache(int size) const override { return model_.make_cache(size); }

  // What each row was continued with: the tokens that single steps were given, without the prompt's last.
  std::vector<std::vector<int>> continued() const {
    std::vector<std::vector<int>> rows(steps.at(0).shape(0));
    for (size_t i = 1; i < steps.size(); ++i) {
      auto tokens = mx::contiguous(mx::astype(steps[i], mx::int32));
      tokens.eval();
      for (size_t row = 0; row < rows.size(); ++row) rows[row].push_back(tokens.data<int>()[row]);
    }
    return rows;
  }

  mutable std::vector<mx::Shape> shapes;
  mutable std::vector<mx::array> steps;

 private:
  const models::LanguageModel& model_;
};

class Benchmark : public testing::Test {
 protected:
  GoldenCase golden_{"llama_basic"};
  std::unique_ptr<models::LanguageModel> model_ = golden_.make();
};

TEST_F(Benchmark, continues_one_prompt_as_generate_step_does) {
  const auto prompt = golden_.expected["prompt"].get<std::vector<int>>();
  const Recorder recorder(*model_);
  const auto r = run_benchmark(recorder, prompt, {.prompt_tokens = 40, .generation_tokens = 8, .prefill_step_size = 7});
  auto greedy = golden_.expected["exact"]["greedy"].get<std::vector<int>>();
  greedy.resize(8);
  EXPECT_EQ(recorder.continued().at(0), greedy);
  EXPECT_EQ(recorder.shapes[0], (mx::Shape{1, 7}));
  EXPECT_GT(r.prompt_tps, 0);
  EXPECT_GT(r.generation_tps, 0);
  EXPECT_GT(r.peak_memory, 0.001);
  EXPECT_NEAR(r.prompt_tps * r.first_token, 40, 1e-6);
  EXPECT_NEAR(r.generation_tps * (r.total_time - r.first_token), 8, 1e-4);
  EXPECT_NEAR(r.steps_per_second * (r.total_time - r.first_token), 7, 1e-4);
  // 2 layers, keys and values, 4 heads of 16 numbers in float32, 44 tokens on average.
  EXPECT_NEAR(r.cache_bytes, 2. * 2 * 4 * 16 * 4 * 44, 1);
}

TEST_F(Benchmark, continues_each_row_of_a_batch_as_if_it_were_alone) {
  const auto prompt = golden_.expected["prompt"].get<std::vector<int>>();
  const auto other = golden_.expected["other"].get<std::vector<int>>();
  std::vector<int> both = prompt;
  both.insert(both.end(), other.begin(), other.end());
  for (int size : {7, 20, 100}) {
    const Recorder batch(*model_), first(*model_), second(*model_);
    BenchmarkOptions o{.prompt_tokens = 40, .generation_tokens = 9, .batch_size = 2, .prefill_step_size = size};
    const auto r = run_benchmark(batch, both, o);
    o.batch_size = 1;
    run_benchmark(first, prompt, o);
    run_benchmark(second, other, o);
    auto rows = batch.continued();
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].size(), 8u);  // the ninth is computed, and nothing after it
    for (auto [row, alone] : {std::pair(rows[0], first.continued()[0]), std::pair(rows[1], second.continued()[0])}) {
      alone.resize(8);  // generate_step() computes one step more
      EXPECT_EQ(row, alone);
    }
    EXPECT_EQ(batch.shapes[0], (mx::Shape{2, std::min(size, 39)}));
    EXPECT_NEAR(r.prompt_tps * r.first_token, 80, 1e-6) << "of all rows";
    EXPECT_NEAR(r.generation_tps * (r.total_time - r.first_token), 18, 1e-4) << "of all rows";
    EXPECT_NEAR(r.steps_per_second * (r.total_time - r.first_token), 8, 1e-4) << "for all rows together";
  }
}

TEST_F(Benchmark, takes_the_shortest_prompt_and_answer) {
  for (int rows : {1, 3}) {
    const BenchmarkOptions o{.prompt_tokens = 1, .generation_tokens = 1, .batch_size = rows};
    const auto r = run_benchmark(*model_, random_prompts(96, o), o);
    EXPECT_GT(r.prompt_tps, 0);
    EXPECT_EQ(r.steps_per_second, 0);
  }
}

TEST_F(Benchmark, draws_mlx_lm_s_prompts) {
  // mx.random.seed(0); mx.random.randint(0, 49152, (2, 5)).tolist()
  const std::vector<int> expected = {17152, 23696, 1009, 26129, 30996, 38681, 3674, 2223, 17415, 3035};
  const BenchmarkOptions o{.prompt_tokens = 5, .batch_size = 2};
  EXPECT_EQ(random_prompts(49152, o), expected);
  EXPECT_EQ(random_prompts(49152, o), expected);
  EXPECT_NE(random_prompts(49152, o, 1), expected);
}

TEST_F(Benchmark, refuses_what_makes_no_sense) {
  const auto refused = [](const BenchmarkOptions& o) {
    try {
      o.validate();
    } catch (const RequestError& error) {
      return std::string(error.what());
    }
    return std::string("nothing thrown");
  };
  EXPECT_EQ(refused({.prompt_tokens = 0}), "[benchmark] prompt-tokens: expected a number from 1 to 16777216, found 0");
  EXPECT_NE(refused({.generation_tokens = 0}).find("generation-tokens"), std::string::npos);
  EXPECT_NE(refused({.batch_size = -1}).find("batch-size"), std::string::npos);
  EXPECT_NE(refused({.prefill_step_size = 0}).find("prefill-step-size"), std::string::npos);
  EXPECT_NE(refused({.prompt_tokens = 1 << 20, .batch_size = 1 << 10}).find("prompt-tokens"), std::string::npos);
  EXPECT_EQ(refused({}), "nothing thrown");
  EXPECT_THROW(run_benchmark(*model_, {1, 2, 3}, {.prompt_tokens = 2}), RequestError);
  EXPECT_THROW(mean({}), RequestError);
}

TEST(BenchmarkResult, mean_of_every_figure) {
  const auto m = mean({{1, 2, 3, 4, 5, 6, 7}, {3, 4, 5, 6, 7, 8, 9}});
  EXPECT_EQ(m.prompt_tps, 2);
  EXPECT_EQ(m.generation_tps, 3);
  EXPECT_EQ(m.peak_memory, 4);
  EXPECT_EQ(m.total_time, 5);
  EXPECT_EQ(m.first_token, 6);
  EXPECT_EQ(m.steps_per_second, 7);
  EXPECT_EQ(m.cache_bytes, 8);
}

TEST(MachineShare, counts_bytes_and_operations) {
  nn::WeightTotals weights;
  weights.layers = {.bytes = 1000, .rounded = 500, .floating = 100};
  weights.output = {.bytes = 400, .rounded = 50};
  weights.tables = {.bytes = 300, .rounded = 50};
  const kernels::MachineLimits limits{.threads = 1, .read = 1e4, .int8 = 1e5, .int16 = 5e4, .float32 = 2e4};
  const BenchmarkResult r{.prompt_tps = 10, .steps_per_second = 5, .cache_bytes = 100};
  using kernels::Activations;
  const auto share = machine_share(weights, r, limits, Activations::int16);
  EXPECT_NEAR(share.generation, (1000 + 400 + 100) * 5 / 1e4, 1e-12);
  EXPECT_NEAR(share.prompt, 10 * (2 * 500 / 5e4 + 2 * 100 / 2e4), 1e-12);
  EXPECT_NEAR(machine_share(weights, r, limits, Activations::int8).prompt, 10 * (2 * 500 / 1e5 + 2 * 100 / 2e4), 1e-12);
  EXPECT_NEAR(machine_share(weights, r, limits, Activations::float32).prompt, 10 * 2 * 600 / 2e4, 1e-12);
  weights.tied = true;
  EXPECT_NEAR(machine_share(weights, r, limits, Activations::int16).generation, (1000 + 300 + 100) * 5 / 1e4, 1e-12);
}

}  // namespace
}  // namespace mlx_lm
