#include "mlx_lm/generate/batch_generator.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/generate_step.h"
#include "mlx_lm/ops/backend.h"

#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

struct Text {
  std::vector<int> tokens;
  std::vector<mx::array> logprobs;
  std::optional<FinishReason> reason;
  cache::KVCaches caches;
};

class Batch : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    golden_ = std::make_unique<GoldenCase>(GetParam());
    model_ = golden_->make();
  }

  // n random prompts of 1 to `longest` tokens.
  std::vector<std::vector<int>> prompts(int n, int longest) {
    std::vector<std::vector<int>> prompts(n);
    for (auto& prompt : prompts) {
      prompt.resize(std::uniform_int_distribution<int>(1, longest)(random_));
      for (int& id : prompt) id = std::uniform_int_distribution<int>(0, model_->vocab_size() - 1)(random_);
    }
    return prompts;
  }

  Text alone(const std::vector<int>& prompt, StepOptions options, const std::set<int>& stop = {}) {
    Text text;
    for (auto& step : generate_step(prompt, *model_, std::move(options))) {
      text.tokens.push_back(step.token);
      text.logprobs.push_back(step.logprobs);
      if (stop.contains(step.token)) break;
    }
    return text;
  }

  static void collect(BatchGenerator& batch, std::map<int, Text>& texts) {
    for (auto& response : batch.next()) {
      auto& text = texts[response.uid];
      ASSERT_FALSE(text.reason) << "a token after the last";
      text.tokens.push_back(response.token);
      text.logprobs.push_back(response.logprobs);
      text.reason = response.finish_reason;
      text.caches = std::move(response.caches);
    }
  }

  std::unique_ptr<GoldenCase> golden_;
  std::unique_ptr<models::LanguageModel> model_;
  std::mt19937 random_{7};
};

TEST_P(Batch, each_text_is_what_it_is_alone) {
  for (const BatchOptions& options : {BatchOptions{},
                                      {.completion_batch_size = 3, .prefill_batch_size = 2},
                                      {.prefill_batch_size = 4, .prefill_step_size = 5},
                                      {.completion_batch_size = 1},
                                      {.max_kv_size = 9}}) {
    SCOPED_TRACE(testing::Message() << "batch " << options.completion_batch_size << ", prefill step "
                                    << options.prefill_step_size << ", kv size " << options.max_kv_size);
    BatchGenerator batch(*model_, options);
    const auto all = prompts(12, 24);
    std::map<int, int> prompt_of;
    std::map<int, Text> texts;
    const auto most = [](int i) { return 1 + i * 5 % 17; };
    for (int i = 0; i < 12; ++i) {
      prompt_of[batch.insert(all[i], {.max_tokens = most(i)})] = i;
      if (i % 3 == 2) collect(batch, texts);  // some come when others run already
    }
    while (!batch.empty()) collect(batch, texts);
    EXPECT_EQ(batch.size(), 0);
    ASSERT_EQ(texts.size(), all.size());
    for (auto& [uid, text] : texts) {
      const int i = prompt_of.at(uid);
      auto wanted = alone(
          all[i],
          {.max_tokens = most(i), .max_kv_size = options.max_kv_size, .prefill_step_size = options.prefill_step_size});
      EXPECT_EQ(text.tokens, wanted.tokens) << "prompt " << i;
      EXPECT_EQ(text.reason, FinishReason::length);
      for (size_t t = 0; t < text.tokens.size(); ++t) {
        ASSERT_EQ(text.logprobs[t].shape(), mx::Shape{model_->vocab_size()});
        EXPECT_EQ(mx::max(mx::abs(text.logprobs[t] - wanted.logprobs[t])).item<float>(), 0) << "token " << t;
      }
    }
  }
}

TEST_P(Batch, texts_end_at_their_stop_tokens) {
  BatchGenerator batch(*model_);
  const auto all = prompts(6, 10);
  std::map<int, Text> texts;
  std::vector<Text> wanted;
  for (int i = 0; i < 6; ++i) {
    const int stop = alone(all[i], {.max_tokens = 10}).tokens[3];
    wanted.push_back(alone(all[i], {.max_tokens = 40}, {stop}));
    EXPECT_EQ(batch.insert(all[i], {.max_tokens = 40, .stop_tokens = {stop}}), i);
  }
  while (!batch.empty()) collect(batch, texts);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(texts[i].tokens, wanted[i].tokens);
    EXPECT_EQ(texts[i].reason, FinishReason::stop);
  }
}

TEST_P(Batch, caches_come_out_and_go_in_again) {
  const auto prompt = prompts(1, 9)[0], more = prompts(1, 5)[0], other = prompts(1, 12)[0];
  for (bool by_length : {true, false}) {
    BatchGenerator batch(*model_);
    batch.insert(other, {.max_tokens = 30});
    const auto first = alone(prompt, {.max_tokens = 7});
    std::set<int> stop;
    if (!by_length) stop = {first.tokens[4]};
    const int uid = batch.insert(prompt, {.max_tokens = 7, .stop_tokens = stop, .return_cache = true});
    std::map<int, Text> texts;
    while (!texts[uid].reason) collect(batch, texts);
    ASSERT_FALSE(texts[uid].caches.empty());
    EXPECT_EQ(texts[uid].caches[0]->offset(), int(prompt.size() + texts[uid].tokens.size()));

    auto whole = prompt;
    whole.insert(whole.end(), texts[uid].tokens.begin(), texts[uid].tokens.end());
    whole.insert(whole.end(), more.begin(), more.end());
    const int again = batch.insert(more, {.max_tokens = 6, .prompt_cache = std::move(texts[uid].caches)});
    while (!batch.empty()) collect(batch, texts);
    EXPECT_EQ(texts[again].tokens, alone(whole, {.max_tokens = 6}).tokens);
  }
}

TEST_P(Batch, a_text_can_be_removed_at_any_time) {
  const auto all = prompts(5, 14);
  for (int when = 0; when < 8; ++when) {
    BatchGenerator batch(*model_, {.completion_batch_size = 4, .prefill_step_size = 6});
    for (const auto& prompt : all) batch.insert(prompt, {.max_tokens = 12});
    std::map<int, Text> texts;
    for (int i = 0; i < when; ++i) collect(batch, texts);
    const auto before = texts[1].tokens.size();
    batch.remove(1);
    batch.remove(4);
    EXPECT_TRUE(batch.remove(1).empty());
    EXPECT_EQ(batch.size(), 3);
    while (!batch.empty()) collect(batch, texts);
    EXPECT_EQ(texts[1].tokens.size(), before);
    for (int i : {0, 2, 3}) EXPECT_EQ(texts[i].tokens, alone(all[i], {.max_tokens = 12}).tokens) << i;
  }
}

TEST_P(Batch, tells_its_progress) {
  BatchGenerator batch(*model_, {.prefill_step_size = 8});
  batch.insert(std::vector<int>(14, 1), {.max_tokens = 2});
  batch.insert(std::vector<int>(6, 2), {.max_tokens = 2});
  std::vector<std::array<int, 3>> told;
  while (!batch.empty()) {
    batch.next();
    for (const auto& p : batch.progress()) told.push_back({p.uid, p.processed, p.total});
  }
  EXPECT_EQ(told, (std::vector<std::array<int, 3>>{{0, 8, 14}, {0, 13, 14}, {1, 5, 6}}));
  EXPECT_EQ(batch.stats().prompt_tokens, 20);
  EXPECT_EQ(batch.stats().generation_tokens, 4);
}

TEST_P(Batch, refuses_what_makes_no_sense) {
  BatchGenerator batch(*model_);
  const auto message = [](auto call) -> std::string {
    try {
      call();
    } catch (const RequestError& error) {
      return error.what();
    }
    return "nothing";
  };
  const auto size = std::to_string(model_->vocab_size());
  EXPECT_EQ(message([&] { batch.insert({}); }), "[generate] prompt: expected at least one token, found none");
  EXPECT_EQ(message([&] {
              batch.insert({1, -1});
            }),
            "[generate] prompt: expected tokens below the model's " + size + ", found -1");
  EXPECT_EQ(message([&] { batch.insert({model_->vocab_size()}); }),
            "[generate] prompt: expected tokens below the model's " + size + ", found " + size);
  EXPECT_EQ(message([&] { batch.insert({1}, {.max_tokens = 0}); }),
            "[generate] max-tokens: expected 1 or more, or -1 for no limit, found 0");
  cache::KVCaches none(1);
  EXPECT_EQ(message([&] { batch.insert({1}, {.prompt_cache = std::move(none)}); }),
            fmt::format("[generate] prompt_cache: expected {} layers, found 1", model_->num_layers()));
  EXPECT_EQ(message([&] { BatchGenerator(*model_, {.completion_batch_size = 0}); }),
            "[generate] completion-batch-size: expected at least 1, found 0");
  EXPECT_TRUE(batch.empty());
  EXPECT_TRUE(batch.next().empty());
}

INSTANTIATE_TEST_SUITE_P(Models, Batch, testing::Values("llama_basic", "llama_sliding", "llama_q4", "qwen3_tied"));

// By MLX's own operations the same holds within rounding, so the likeliest tokens are the same.
TEST(BatchOnMlx, each_text_is_what_it_is_alone) {
  ops::set_backend(ops::Backend::mlx);
  GoldenCase golden("llama_sliding");
  const auto model = golden.make();
  BatchGenerator batch(*model);
  const std::vector<std::vector<int>> prompts{{1, 2, 3, 4, 5, 6, 7, 8, 9}, {20}, {7, 7, 30, 31}};
  std::map<int, std::vector<int>> texts;
  for (const auto& prompt : prompts) batch.insert(prompt, {.max_tokens = 9});
  while (!batch.empty()) {
    for (const auto& response : batch.next()) texts[response.uid].push_back(response.token);
  }
  for (int i = 0; i < 3; ++i) {
    std::vector<int> wanted;
    for (auto& step : generate_step(prompts[i], *model, {.max_tokens = 9})) wanted.push_back(step.token);
    EXPECT_EQ(texts[i], wanted);
  }
  ops::set_backend(ops::Backend::kernels);
}

}  // namespace
}  // namespace mlx_lm
