#include "mlx_lm/generate/generate_step.h"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

using Progress = std::vector<std::pair<int, int>>;

class GenerateStep : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    golden_ = new GoldenCase("llama_basic");
    model_ = golden_->make().release();
  }
  static void TearDownTestSuite() {
    delete model_;
    delete golden_;
  }

  static std::vector<int> prompt() { return golden_->expected["prompt"]; }
  static std::vector<int> all_greedy() { return golden_->expected["exact"]["greedy"]; }
  // The first 8.
  static std::vector<int> greedy() {
    auto ids = all_greedy();
    ids.resize(8);
    return ids;
  }

  static std::vector<int> tokens(std::vector<int> prompt, StepOptions options) {
    std::vector<int> out;
    for (auto& step : generate_step(std::move(prompt), *model_, std::move(options))) out.push_back(step.token);
    return out;
  }

  static inline GoldenCase* golden_;
  static inline models::LanguageModel* model_;
};

TEST_F(GenerateStep, makes_what_mlx_lm_makes) {
  EXPECT_EQ(tokens(prompt(), {.max_tokens = int(all_greedy().size())}), all_greedy());
}

TEST_F(GenerateStep, does_not_depend_on_how_the_prompt_is_cut) {
  for (int size : {1, 2, 7, 38, 39, 40, 1000}) {
    EXPECT_EQ(tokens(prompt(), {.max_tokens = 8, .prefill_step_size = size}), greedy()) << size;
  }
}

// They see the prompt and all that came after it, however the prompt is cut.
TEST_F(GenerateStep, gives_processors_the_whole_history) {
  for (int size : {3, 100}) {
    std::vector<std::vector<int>> seen;
    const auto look = [&](const mx::array& tokens, const mx::array& logits) {
      EXPECT_EQ(logits.shape(), (mx::Shape{1, model_->vocab_size()}));
      EXPECT_EQ(tokens.dtype(), mx::int32);
      auto all = tokens;
      all.eval();
      seen.emplace_back(all.data<int>(), all.data<int>() + all.size());
      return logits;
    };
    const auto made = tokens(prompt(), {.max_tokens = 4, .logits_processors = {look}, .prefill_step_size = size});
    const auto wanted = greedy();
    EXPECT_EQ(made, std::vector<int>(wanted.begin(), wanted.begin() + 4));
    ASSERT_EQ(seen.size(), 4u);
    auto history = prompt();
    for (int i = 0; i < 4; history.push_back(made[i++])) EXPECT_EQ(seen[i], history);
  }
}

TEST_F(GenerateStep, chooses_from_processed_logits) {
  const auto first = greedy()[0];
  const auto never = sample::make_logit_bias({{first, -std::numeric_limits<float>::infinity()}});
  for (const bool drawn : {false, true}) {
    StepOptions options{.max_tokens = 8, .logits_processors = {never}};
    if (drawn) options.sampler = sample::make_sampler({.temp = 1, .seed = 1});
    for (auto& step : generate_step(prompt(), *model_, options)) {
      EXPECT_NE(step.token, first);
      EXPECT_EQ(step.logprobs.ndim(), 1u);
      EXPECT_NEAR(mx::sum(mx::exp(step.logprobs)).item<float>(), 1, 1e-5);
      EXPECT_EQ(mx::take(step.logprobs, first).item<float>(), -std::numeric_limits<float>::infinity());
    }
  }
  const sample::LogitsProcessor always = sample::make_logit_bias({{first, 1e6f}});
  EXPECT_EQ(tokens(prompt(), {.max_tokens = 3, .logits_processors = {always}}), std::vector<int>(3, first));
}

TEST_F(GenerateStep, tells_its_progress) {
  const auto progress = [&](std::vector<int> prompt, int size, int max_tokens = 2) {
    Progress told;
    tokens(std::move(prompt), {.max_tokens = max_tokens,
                               .prefill_step_size = size,
                               .prompt_progress_callback = [&](int n, int total) { told.emplace_back(n, total); }});
    return told;
  };
  EXPECT_EQ(progress(prompt(), 8), (Progress{{0, 40}, {8, 40}, {16, 40}, {24, 40}, {32, 40}, {39, 40}, {40, 40}}));
  EXPECT_EQ(progress(prompt(), 100), (Progress{{0, 40}, {39, 40}, {40, 40}}));
  EXPECT_EQ(progress({5}, 8), (Progress{{0, 1}, {1, 1}}));
  EXPECT_EQ(progress({5, 6}, 8, 0), (Progress{{0, 2}, {1, 2}, {2, 2}})) << "no token, the whole prompt";
}

TEST_F(GenerateStep, makes_as_many_tokens_as_wanted) {
  for (int n : {0, 1, 3, 300}) EXPECT_EQ(tokens(prompt(), {.max_tokens = n}).size(), size_t(n));
  int made = 0;
  for (auto& step : generate_step(prompt(), *model_, {.max_tokens = -1})) {
    if (made < 8) {
      EXPECT_EQ(step.token, greedy()[made]);
    }
    if (++made == 400) break;
  }
  EXPECT_EQ(made, 400);
}

TEST_F(GenerateStep, gives_log_probabilities) {
  for (auto& step : generate_step(prompt(), *model_, {.max_tokens = 3})) {
    auto p = step.logprobs;
    ASSERT_EQ(p.shape(), mx::Shape{96});
    EXPECT_NEAR(mx::sum(mx::exp(p)).item<float>(), 1, 1e-4);
    EXPECT_EQ(int(mx::argmax(p).item<uint32_t>()), step.token);
  }
  // Those of the first token, against mlx-lm's logits.
  const auto logits = golden_->expected["exact"]["last"].get<std::vector<float>>();
  auto wanted = mx::array(logits.begin(), {96}, mx::float32);
  wanted = wanted - mx::logsumexp(wanted);
  auto steps = generate_step(prompt(), *model_, {.max_tokens = 1});
  EXPECT_LT(mx::max(mx::abs(steps.begin()->logprobs - wanted)).item<float>(), 1e-4);
}

TEST_F(GenerateStep, asks_the_sampler) {
  const auto least = [&](const mx::array& logits) {
    EXPECT_EQ(logits.shape(), (mx::Shape{1, 96}));
    return mx::argmin(logits, -1);
  };
  for (auto& step : generate_step(prompt(), *model_, {.max_tokens = 4, .sampler = least})) {
    EXPECT_EQ(int(mx::argmin(step.logprobs).item<uint32_t>()), step.token);
  }
  EXPECT_EQ(tokens(prompt(), {.max_tokens = 8, .sampler = sample::make_sampler({.temp = 0})}), greedy());
  const auto fails = [](const mx::array&) -> mx::array { fail<RequestError>("[test] the sampler's own"); };
  EXPECT_THROW(tokens(prompt(), {.sampler = fails}), RequestError);
}

// The step that puts the last token into the caches is left out where they end with the text.
TEST_F(GenerateStep, makes_no_step_in_vain) {
  int steps = 0;
  const auto counted = [&](const mx::array& logprobs) { return ++steps, mx::argmax(logprobs, -1); };
  for (int n : {1, 2, 5}) {
    steps = 0;
    EXPECT_EQ(tokens(prompt(), {.max_tokens = n, .sampler = counted}).size(), size_t(n));
    EXPECT_EQ(steps, n);
    steps = 0;
    auto caches = model_->make_cache();
    tokens(prompt(), {.max_tokens = n, .sampler = counted, .prompt_cache = &caches});
    EXPECT_EQ(steps, n + 1);
  }
}

TEST_F(GenerateStep, continues_a_cache_in_place) {
  auto all = prompt();
  for (size_t cut : {1u, 7u, 39u}) {
    auto caches = model_->make_cache();
    tokens({all.begin(), all.begin() + long(cut)}, {.max_tokens = 0, .prompt_cache = &caches});
    EXPECT_EQ(caches[0]->offset(), int(cut));
    EXPECT_EQ(tokens({all.begin() + long(cut), all.end()}, {.max_tokens = 8, .prompt_cache = &caches}), greedy())
        << cut;
  }
}

TEST_F(GenerateStep, leaves_every_token_that_it_gave_in_the_cache) {
  for (size_t n : {1u, 5u}) {
    auto caches = model_->make_cache();
    const auto made = tokens(prompt(), {.max_tokens = int(n), .prompt_cache = &caches});
    for (const auto& cache : caches) EXPECT_EQ(cache->offset(), int(prompt().size() + n));
    // So a new turn goes on from there: one more token of the text, as if it had come with the prompt.
    auto text = prompt();
    text.insert(text.end(), made.begin(), made.end());
    text.push_back(3);
    EXPECT_EQ(tokens({3}, {.max_tokens = 5, .prompt_cache = &caches}), tokens(text, {.max_tokens = 5})) << n;
  }
  // The same for a loop that is left.
  auto caches = model_->make_cache();
  int n = 0;
  for (auto& step : generate_step(prompt(), *model_, {.prompt_cache = &caches})) {
    EXPECT_EQ(step.token, greedy()[n]);
    if (++n == 3) break;
  }
  EXPECT_EQ(caches[0]->offset(), 43);
}

TEST_F(GenerateStep, bounds_its_own_cache) {
  const GoldenCase bounded("qwen3_max_kv_size");
  const auto model = bounded.make();
  const auto wanted = bounded.expected["exact"]["greedy"].get<std::vector<int>>();
  for (int size : {3, 2048}) {
    std::vector<int> made;
    for (auto& step : generate_step(bounded.expected["prompt"], *model,
                                    {.max_tokens = int(wanted.size()),
                                    .max_kv_size = bounded.expected["max_kv_size"],
                                    .prefill_step_size = size})) {
      made.push_back(step.token);
    }
    if (size == 2048) {
      EXPECT_EQ(made, wanted);
    } else {
      EXPECT_EQ(made.size(), wanted.size()) << "what the prompt's pieces saw was another, bounded text";
    }
  }
  EXPECT_THROW(tokens(prompt(), {.max_kv_size = 4}), RequestError);
}

TEST_F(GenerateStep, quantizes_keys_and_values_as_mlx_lm_does) {
  const GoldenCase golden("llama_kv_bits");
  const auto model = golden.make();
  ASSERT_EQ(golden.expected["kv"].size(), 6u);
  for (const auto& wanted : golden.expected["kv"]) {
    SCOPED_TRACE(testing::Message() << wanted["bits"] << " bits by " << wanted["group_size"] << " from "
                                    << wanted["start"]);
    size_t i = 0;
    for (auto& step : generate_step(golden.expected["prompt"], *model,
                                    {.max_tokens = int(wanted["greedy"].size()),
                                    .kv_bits = wanted["bits"],
                                    .kv_group_size = wanted["group_size"],
                                    .quantized_kv_start = wanted["start"],
                                    .prefill_step_size = 7})) {
      ASSERT_EQ(step.token, wanted["greedy"][i]) << i;
      EXPECT_NEAR(mx::take(step.logprobs, step.token).item<float>(), wanted["logprobs"][i].get<float>(), 2e-3) << i;
      ++i;
    }
    EXPECT_EQ(i, wanted["greedy"].size());
  }
}

TEST_F(GenerateStep, quantizes_bounded_caches_too) {
  const GoldenCase golden("llama_kv_bits");
  const auto model = golden.make();
  for (int size : {12, 24}) {
    for (int start : {0, 15}) {
      auto caches = model->make_cache(size);
      int made = 0;
      for ([[maybe_unused]] auto& step :
           generate_step(golden.expected["prompt"], *model,
                         {.max_tokens = 30, .kv_bits = 8, .quantized_kv_start = start, .prompt_cache = &caches})) {
        made += 1;
      }
      EXPECT_EQ(made, 30);
      EXPECT_EQ(cache::kv(*caches[0]).format().bits, 8);
      EXPECT_LE(caches[0]->nbytes(), size_t(size) * 2 * 2 * (64 + 8));
    }
  }
}

TEST_F(GenerateStep, stops_when_told) {
  std::stop_source before;
  before.request_stop();
  EXPECT_TRUE(tokens(prompt(), {.stop = before.get_token()}).empty());

  std::stop_source during;
  auto caches = model_->make_cache();
  const auto made = tokens(prompt(), {.prefill_step_size = 4,
                                      .prompt_cache = &caches,
                                      .prompt_progress_callback =
                                          [&](int n, int) {
                                            if (n == 8) during.request_stop();
                                          },
                                      .stop = during.get_token()});
  EXPECT_TRUE(made.empty());
  EXPECT_EQ(caches[0]->offset(), 8) << "what was computed stays usable";

  std::stop_source after;
  int n = 0;
  for (auto& step : generate_step(prompt(), *model_, {.stop = after.get_token()})) {
    EXPECT_EQ(step.token, greedy()[n]);
    if (++n == 2) after.request_stop();
  }
  EXPECT_EQ(n, 2);
}

TEST_F(GenerateStep, refuses_what_makes_no_sense) {
  EXPECT_THROW(tokens({}, {}), RequestError);
  EXPECT_THROW(tokens(prompt(), {.max_tokens = -2}), RequestError);
  EXPECT_THROW(tokens(prompt(), {.max_kv_size = -1}), RequestError);
  EXPECT_THROW(tokens(prompt(), {.prefill_step_size = 0}), RequestError);
  EXPECT_THROW(tokens(prompt(), {.kv_bits = 7}), RequestError);
  EXPECT_THROW(tokens(prompt(), {.kv_bits = 8, .kv_group_size = 48}), RequestError);
  EXPECT_THROW(tokens(prompt(), {.kv_bits = 8, .quantized_kv_start = -1}), RequestError);
  EXPECT_THROW(tokens(prompt(), {.kv_bits = 8, .kv_group_size = 32}), RequestError) << "heads of 16";
  cache::KVCaches none;
  EXPECT_THROW(tokens(prompt(), {.prompt_cache = &none}), RequestError);
  auto another = GoldenCase("llama_mqa").make()->make_cache();  // of a model with three layers
  EXPECT_THROW(tokens(prompt(), {.prompt_cache = &another}), RequestError);
}

// Two texts with one model, taking turns.
TEST_F(GenerateStep, texts_do_not_mix) {
  const auto other = golden_->expected["other"].get<std::vector<int>>();
  const auto alone = tokens(other, {.max_tokens = 8});
  auto first = generate_step(prompt(), *model_, {.max_tokens = 8}),
       second = generate_step(other, *model_, {.max_tokens = 8});
  auto a = first.begin(), b = second.begin();
  for (int i = 0; i < 8; ++i, ++a, ++b) {
    EXPECT_EQ(a->token, greedy()[i]);
    EXPECT_EQ(b->token, alone[i]);
  }
}

// One model on several threads, each with its own text: MLX gives every thread a stream of its own.
TEST_F(GenerateStep, threads_may_share_a_model) {
  const auto other = golden_->expected["other"].get<std::vector<int>>();
  const auto alone = tokens(other, {.max_tokens = 8}), wanted = greedy();
  std::atomic<int> wrong = 0;
  const auto work = [&](const std::vector<int>& prompt, const std::vector<int>& answer) {
    for (int i = 0; i < 20; ++i) wrong += tokens(prompt, {.max_tokens = 8, .prefill_step_size = 5}) != answer;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work, i % 2 ? other : prompt(), i % 2 ? alone : wanted);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace mlx_lm
