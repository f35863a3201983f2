#include "mlx_lm/generate/drafter.h"

#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/generate_step.h"

#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

using Tokens = std::vector<int>;

TEST(NgramDrafter, proposes_what_followed_the_last_time) {
  NgramDrafter drafter(3, 2);
  EXPECT_EQ(drafter.draft(Tokens{1, 2, 3, 4, 5, 6, 2, 3}, 3), (Tokens{4, 5, 6}));
  EXPECT_EQ(drafter.draft(Tokens{1, 2, 3, 4, 5, 6, 2, 3}, 100), (Tokens{4, 5, 6, 2, 3})) << "as far as the text goes";
  EXPECT_EQ(drafter.draft(Tokens{1, 2, 3, 4, 5, 6, 2, 3}, 0), Tokens{});
  EXPECT_EQ(drafter.draft(Tokens{1, 2, 3, 4, 5, 6, 2, 3, 7}, 3), Tokens{}) << "never seen";
  // The latest place counts, and the longer n-gram before the shorter.
  EXPECT_EQ(NgramDrafter(3, 2).draft(Tokens{1, 2, 8, 1, 2, 9, 1, 2}, 1), Tokens{9});
  EXPECT_EQ(NgramDrafter(3, 2).draft(Tokens{5, 1, 2, 8, 4, 1, 2, 9, 5, 1, 2}, 1), Tokens{8});
  EXPECT_EQ(NgramDrafter(1, 1).draft(Tokens{7, 7}, 4), Tokens{7});
  for (const auto& text : {Tokens{}, Tokens{1}, Tokens{1, 1}}) EXPECT_EQ(NgramDrafter(3, 2).draft(text, 5), Tokens{});
}

// Called step by step, and with texts that go back and change, it finds what a new one finds.
TEST(NgramDrafter, follows_a_text_that_changes) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    NgramDrafter drafter(4, 2);
    Tokens text;
    for (int step = 0; step < 60; ++step) {
      if (random() % 5 == 0) text.resize(random() % (text.size() + 1));
      for (int n = random() % 4; n > 0; --n) text.push_back(random() % 3);
      const auto found = drafter.draft(text, 6);
      // By looking everywhere.
      Tokens wanted;
      const int end = int(text.size());
      for (int length = 4; length >= 2 && wanted.empty(); --length) {
        for (int at = end - 1; at >= length && wanted.empty(); --at) {
          if (end >= length && std::equal(text.end() - length, text.end(), text.begin() + at - length)) {
            wanted.assign(text.begin() + at, text.begin() + std::min(at + 6, end));
          }
        }
      }
      // After going back, what was there before may still be found only if it is in the text.
      EXPECT_EQ(found, wanted);
    }
  }
}

TEST(NgramDrafter, refuses_lengths_that_make_no_sense) {
  EXPECT_THROW(NgramDrafter(2, 0), RequestError);
  EXPECT_THROW(NgramDrafter(2, 3), RequestError);
}

// It drafts what the model would say, whatever became of its drafts before.
TEST(ModelDrafter, drafts_the_models_own_tokens) {
  for (const char* name : {"llama_basic", "llama_sliding"}) {
    GoldenCase golden(name);
    const auto model = golden.make();
    ModelDrafter drafter(*model, *model, /* prefill_step_size */ 7);
    std::mt19937 random(5);
    Tokens text = golden.expected["prompt"];
    for (int step = 0; step < 20; ++step) {
      const int n = 1 + random() % 5;
      Tokens wanted;
      for (auto& made : generate_step(text, *model, {.max_tokens = n})) wanted.push_back(made.token);
      EXPECT_EQ(drafter.draft(text, n), wanted) << step;
      text.insert(text.end(), wanted.begin(), wanted.begin() + random() % (n + 1));
      if (random() % 3 == 0) text.push_back(random() % 50);
      if (random() % 6 == 0) text.resize(text.size() - random() % 4);
    }
    EXPECT_EQ(drafter.draft(text, 0), Tokens{});
  }
}

TEST(ModelDrafter, needs_the_same_vocabulary) {
  GoldenCase one("llama_basic");
  const auto model = one.make();
  struct Other final : models::LanguageModel {
    explicit Other(const models::LanguageModel& m) : LanguageModel(m), model(m) {}
    mx::array operator()(const mx::array& t, cache::KVCaches& c) const override { return model(t, c); }
    int num_layers() const override { return model.num_layers(); }
    int vocab_size() const override { return model.vocab_size() + 1; }
    const models::LanguageModel& model;
  } other(*model);
  try {
    ModelDrafter drafter(other, *model);
    FAIL();
  } catch (const RequestError& error) {
    EXPECT_STREQ(error.what(), "[generate] draft-model: expected the model's vocabulary of 96 tokens, found 97");
  }
}

}  // namespace
}  // namespace mlx_lm
