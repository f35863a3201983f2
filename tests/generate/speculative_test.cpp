#include "mlx_lm/generate/speculative.h"

#include <cmath>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/drafter.h"

#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

using Tokens = std::vector<int>;

// Proposes the right tokens, with a wrong one here and there.
class Oracle final : public Drafter {
 public:
  Oracle(Tokens text, double right, uint32_t seed = 1) : text_(std::move(text)), right_(right), random_(seed) {}
  Tokens draft(std::span<const int> text, int n) override {
    Tokens drafts;
    for (size_t at = text.size(); at < text_.size() && int(drafts.size()) < n; ++at) {
      const bool right = std::uniform_real_distribution<>()(random_) < right_;
      drafts.push_back(right ? text_[at] : (text_[at] + 1) % 90);
    }
    return drafts;
  }
  double cost() const override { return 0; }

 private:
  Tokens text_;
  double right_;
  std::mt19937 random_;
};

class Speculative : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    golden_ = std::make_unique<GoldenCase>(GetParam());
    model_ = golden_->make();
    prompt_ = golden_->expected["prompt"].get<Tokens>();
  }
  Tokens tokens(StepOptions options, int* from_draft = nullptr) const {
    Tokens made;
    for (auto& step : generate_step(prompt_, *model_, std::move(options))) {
      made.push_back(step.token);
      if (from_draft) *from_draft += step.from_draft;
    }
    return made;
  }

  std::unique_ptr<GoldenCase> golden_;
  std::unique_ptr<models::LanguageModel> model_;
  Tokens prompt_;
};

TEST_P(Speculative, greedy_text_stays_the_same) {
  for (int max_kv_size : {0, 12}) {
    const auto plain = tokens({.max_tokens = 60, .max_kv_size = max_kv_size});
    Tokens whole = prompt_;
    whole.insert(whole.end(), plain.begin(), plain.end());
    for (double right : {1., 0.8, 0.5, 0.}) {
      for (int most : {1, 3, 8}) {
        Oracle oracle(whole, right);
        int from_draft = 0;
        EXPECT_EQ(tokens({.max_tokens = 60, .max_kv_size = max_kv_size, .drafter = &oracle, .num_draft_tokens = most},
                         &from_draft),
                  plain)
            << right << " right, at most " << most;
        if (right == 1 && max_kv_size == 0) {
          EXPECT_GE(from_draft, 60 * most / (most + 1) - 8);
        }
        if (right == 0) {
          EXPECT_EQ(from_draft, 0);
        }
      }
    }
    NgramDrafter lookup(3, 1);
    EXPECT_EQ(tokens({.max_tokens = 60, .max_kv_size = max_kv_size, .drafter = &lookup}), plain);
    ModelDrafter itself(*model_, *model_);
    EXPECT_EQ(tokens({.max_tokens = 60, .max_kv_size = max_kv_size, .drafter = &itself}), plain);
  }
}

TEST_P(Speculative, ends_where_it_should) {
  NgramDrafter lookup(3, 1);
  for (int n : {0, 1, 2, 3, 7, 50}) {
    EXPECT_EQ(tokens({.max_tokens = n, .drafter = &lookup}), tokens({.max_tokens = n})) << n;
  }
}

// Left early, the caches hold what was handed out but the newest token, and the text goes on from there.
TEST_P(Speculative, caches_hold_what_was_handed_out) {
  const auto plain = tokens({.max_tokens = 40});
  Tokens whole = prompt_;
  whole.insert(whole.end(), plain.begin(), plain.end());
  for (int cut = 1; cut < 20; ++cut) {
    Oracle oracle(whole, 0.9, cut);
    auto caches = model_->make_cache();
    int made = 0;
    for (auto& step :
         generate_step(prompt_, *model_, {.max_tokens = 30, .prompt_cache = &caches, .drafter = &oracle})) {
      EXPECT_EQ(step.token, plain[made]);
      if (++made == cut) break;
    }
    EXPECT_EQ(caches[0]->offset(), int(prompt_.size()) + cut - 1);
    Tokens rest;
    for (auto& step : generate_step({plain[cut - 1]}, *model_, {.max_tokens = 10, .prompt_cache = &caches})) {
      rest.push_back(step.token);
    }
    EXPECT_EQ(rest, Tokens(plain.begin() + cut, plain.begin() + cut + 10));
  }
}

TEST_P(Speculative, a_seed_gives_the_same_text_with_and_without) {
  const auto options = [](Drafter* drafter) {
    return StepOptions{.max_tokens = 40,
                       .sampler = sample::make_sampler({.temp = 0.9f, .top_p = 0.95f, .seed = 11}),
                       .logits_processors = {sample::make_repetition_penalty(1.1f)},
                       .drafter = drafter};
  };
  const auto plain = tokens(options(nullptr));
  Tokens whole = prompt_;
  whole.insert(whole.end(), plain.begin(), plain.end());
  Oracle oracle(whole, 0.7);
  int from_draft = 0;
  EXPECT_EQ(tokens(options(&oracle), &from_draft), plain);
  EXPECT_GT(from_draft, 5);
}

INSTANTIATE_TEST_SUITE_P(Models, Speculative,
                         testing::Values("llama_basic", "llama_sliding", "llama_q4", "qwen3_tied"));

// Pairs of tokens, drawn many times with drafts that are sometimes right: their frequencies are the model's own
// probabilities (chi-square, fixed seed).
TEST(SpeculativeSampling, keeps_the_distribution) {
  GoldenCase golden("llama_basic");
  const auto model = golden.make();
  const Tokens prompt = golden.expected["prompt"];
  const float temp = 0.6f;
  const auto probabilities = [&](const Tokens& text) {
    auto steps = generate_step(text, *model, {.max_tokens = 1});
    auto p = mx::softmax(steps.begin()->logprobs / mx::array(temp), -1);
    p.eval();
    return std::vector<float>(p.data<float>(), p.data<float>() + p.size());
  };
  const auto first = probabilities(prompt);
  std::map<int, std::vector<float>> second;
  // Always drafts the two likeliest tokens in a row, so that some are accepted and some rejected.
  struct Likeliest final : Drafter {
    Tokens draft(std::span<const int> text, int n) override {
      Tokens drafts;
      for (size_t at = text.size(); at < guess.size() && int(drafts.size()) < n; ++at) drafts.push_back(guess[at]);
      return drafts;
    }
    double cost() const override { return 0; }
    Tokens guess;
  } drafter;
  drafter.guess = prompt;
  for (auto& step : generate_step(prompt, *model, {.max_tokens = 3})) drafter.guess.push_back(step.token);

  constexpr int kDraws = 4000;
  std::map<std::pair<int, int>, int> counts;
  int accepted = 0;
  auto sampler = sample::make_sampler({.temp = temp, .seed = 5});
  auto caches = model->make_cache();
  for (auto& step : generate_step(prompt, *model, {.max_tokens = 0, .prompt_cache = &caches})) (void)step;
  for (int i = 0; i < kDraws; ++i) {
    cache::trim(caches, caches[0]->offset() - int(prompt.size()) + 1);
    Tokens pair;
    // The whole text for the drafter, its last token for the model.
    struct Shifted final : Drafter {
      Shifted(Drafter& d, const Tokens& before) : drafter(d), before(before) {}
      Tokens draft(std::span<const int> text, int n) override {
        Tokens whole(before.begin(), before.end() - 1);
        whole.insert(whole.end(), text.begin(), text.end());
        return drafter.draft(whole, n);
      }
      double cost() const override { return 0; }
      Drafter& drafter;
      const Tokens& before;
    } shifted(drafter, prompt);
    for (auto& step :
         generate_step({prompt.back()}, *model,
                       {.max_tokens = 2, .sampler = sampler, .prompt_cache = &caches, .drafter = &shifted})) {
      pair.push_back(step.token);
      accepted += step.from_draft;
    }
    counts[{pair.at(0), pair.at(1)}] += 1;
  }
  EXPECT_GT(accepted, kDraws / 50);
  EXPECT_LT(accepted, kDraws);
  double chi_square = 0, rest_expected = kDraws, rest_found = kDraws;
  int cells = 0;
  for (int a = 0; a < int(first.size()); ++a) {
    if (first[a] * kDraws < 20) continue;
    Tokens text = prompt;
    text.push_back(a);
    const auto after = probabilities(text);
    for (int b = 0; b < int(after.size()); ++b) {
      const double expected = double(first[a]) * after[b] * kDraws;
      if (expected < 5) continue;
      const double found = counts.contains({a, b}) ? counts.at({a, b}) : 0;
      chi_square += (found - expected) * (found - expected) / expected;
      rest_expected -= expected, rest_found -= found;
      cells += 1;
    }
  }
  chi_square += (rest_found - rest_expected) * (rest_found - rest_expected) / rest_expected;
  ASSERT_GT(cells, 10);
  // The mean of chi-square is the number of free cells, its variance twice that.
  EXPECT_LT(chi_square, cells + 4 * std::sqrt(2. * cells));
}

TEST(DraftLength, follows_what_was_accepted) {
  DraftLength good(10, 0.3);
  for (int i = 0; i < 30; ++i) good.learn(good.next(), 10);
  EXPECT_EQ(good.next(), 10);
  DraftLength bad(10, 0.3);
  for (int i = 0; i < 30; ++i) bad.learn(bad.next(), 0);
  int drafted = 0;
  for (int i = 0; i < 64; ++i) drafted += bad.next();
  EXPECT_EQ(drafted, 4) << "it asks now and then whether the text has become easier";
  DraftLength half(10, 0.3);
  for (int i = 0; i < 40; ++i) half.learn(2, 1);
  EXPECT_LE(half.next(), 2);
}

}  // namespace
}  // namespace mlx_lm
