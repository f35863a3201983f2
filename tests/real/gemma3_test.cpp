// Gemma 3 270M in Q4_K_M against SentencePiece and Python mlx-lm's float32 run of the same weights (gemma3.json, made
// by gemma3.py).
#include <cstdlib>
#include <fstream>
#include <iostream>

#include <gtest/gtest.h>

#include "mlx_lm/mlx_lm.h"

namespace mlx_lm {
namespace {

// What 16-bit activations and float16 keys move the difference of two logits by, which are about 20 here.
constexpr double kRounding = 0.05;

class Gemma3 : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto path = default_model_path().parent_path() / "gemma-3-270m-q4_k_m.gguf";
    ASSERT_TRUE(std::filesystem::exists(path)) << path << " is missing: run scripts/setup.sh --test";
    loaded_ = std::make_unique<Loaded>(load(path.string()));
    expected_ = nlohmann::json::parse(std::ifstream(MLX_LM_TEST_DATA "/real/gemma3.json"));
  }
  static void TearDownTestSuite() { loaded_.reset(); }

  static std::unique_ptr<Loaded> loaded_;
  static nlohmann::json expected_;
};
std::unique_ptr<Loaded> Gemma3::loaded_;
nlohmann::json Gemma3::expected_;

TEST_F(Gemma3, texts_have_the_tokens_of_sentencepiece) {
  int wrong = 0;
  for (const auto& entry : expected_.at("tokens")) {
    const auto text = entry[0].get<std::string>();
    uint32_t hash = 2166136261u;
    for (int id : loaded_->tokenizer.encode(text, false)) {
      for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ (uint32_t(id) >> shift & 255)) * 16777619u;
    }
    if (hash == entry[1].get<uint32_t>()) continue;
    if (++wrong <= 20) ADD_FAILURE() << nlohmann::json(text).dump() << "\n" << nlohmann::json(text).dump(-1, ' ', true);
  }
  EXPECT_EQ(wrong, 0) << "of " << expected_.at("tokens").size();
}

TEST_F(Gemma3, prompts_begin_with_the_token_of_beginning) {
  for (const auto& c : expected_.at("cases")) {
    EXPECT_EQ(loaded_->tokenizer.encode(c.at("prompt"), true), c.at("prompt_ids").get<std::vector<int>>());
  }
}

TEST_F(Gemma3, greedy_text_is_that_of_mlx_lm) {
  int same = 0, ties = 0;
  for (const auto& c : expected_.at("cases")) {
    SCOPED_TRACE(c.at("prompt"));
    const auto expected = c.at("ids").get<std::vector<int>>();
    const auto prompt = c.at("prompt_ids").get<std::vector<int>>();
    size_t i = 0;
    for (auto& step : generate_step(prompt, *loaded_->model, {.max_tokens = int(expected.size())})) {
      if (step.token != expected[i]) {
        EXPECT_EQ(step.token, c.at("second_ids")[i]) << "token " << i;
        EXPECT_LE(c.at("gaps")[i].get<double>(), kRounding) << "token " << i;
        ++ties;
        break;  // from here on the texts are different ones
      }
      ++same, ++i;
    }
  }
  std::cout << same << " tokens of " << expected_.at("cases").size() << " texts are the same; " << ties
            << " texts part where mlx-lm's two best are nearly equal" << std::endl;
  EXPECT_GE(same, 100);
}

}  // namespace
}  // namespace mlx_lm
