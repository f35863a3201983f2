// The default model against Python mlx-lm's float16 run of the same weights (smollm2_greedy.json, made by greedy.py
// from a folder that another program unpacked).
#include <fstream>
#include <iostream>

#include <gtest/gtest.h>

#include "mlx_lm/mlx_lm.h"

namespace mlx_lm {
namespace {

// How far float16 arithmetic moves the difference of two logits here: they are about 20, where float16 has steps of
// 1/64, and 30 layers of rounding add up to some of these.
constexpr double kRounding = 0.15;

class RealModel : public testing::Test {
 protected:
  // MLX_LM_REAL_MODEL: the same weights in another format, say the float16 folder of the reference.
  static void SetUpTestSuite() {
    const char* other = std::getenv("MLX_LM_REAL_MODEL");
    loaded_ = std::make_unique<Loaded>(load(other ? other : default_model_path().string()));
  }
  static void TearDownTestSuite() { loaded_.reset(); }

  static std::unique_ptr<Loaded> loaded_;
  const nlohmann::json cases_ =
      nlohmann::json::parse(std::ifstream(MLX_LM_TEST_DATA "/real/smollm2_greedy.json")).at("cases");
};
std::unique_ptr<Loaded> RealModel::loaded_;

TEST_F(RealModel, prompts_have_the_same_tokens) {
  for (const auto& c : cases_) {
    const auto text = loaded_->tokenizer.apply_chat_template({{{"role", "user"}, {"content", c.at("prompt")}}}, {});
    EXPECT_EQ(loaded_->tokenizer.encode(text, false), c.at("prompt_ids").get<std::vector<int>>()) << c.at("prompt");
  }
}

TEST_F(RealModel, greedy_text_is_that_of_mlx_lm) {
  int same = 0, ties = 0;
  for (const auto& c : cases_) {
    SCOPED_TRACE(c.at("prompt"));
    const auto expected = c.at("ids").get<std::vector<int>>();
    const auto gaps = c.at("gaps").get<std::vector<double>>();
    const auto prompt = c.at("prompt_ids").get<std::vector<int>>();
    size_t i = 0;
    for (auto& step : generate_step(prompt, *loaded_->model, {.max_tokens = int(expected.size())})) {
      if (step.token != expected[i]) {
        EXPECT_EQ(step.token, c.at("second_ids")[i]) << "token " << i;
        EXPECT_LE(gaps[i], kRounding) << "token " << i;
        ++ties;
        break;  // from here on the texts are different ones
      }
      ++same, ++i;
    }
  }
  std::cout << same << " tokens of " << cases_.size() << " answers are the same; " << ties
            << " answers part where mlx-lm's two best are within float16 rounding" << std::endl;
  EXPECT_GE(same, 450);
}

// Every step by itself, after mlx-lm's own text: a tie does not end the comparison.
TEST_F(RealModel, every_step_agrees_with_mlx_lm) {
  int steps = 0, ties = 0;
  for (const auto& c : cases_) {
    SCOPED_TRACE(c.at("prompt"));
    auto ids = c.at("prompt_ids").get<std::vector<int>>();
    const int first = int(ids.size()) - 1;
    const auto expected = c.at("ids").get<std::vector<int>>();
    ids.insert(ids.end(), expected.begin(), expected.end() - 1);
    auto caches = loaded_->model->make_cache();
    auto best = mx::argmax((*loaded_->model)(mx::array(ids.data(), {1, int(ids.size())}, mx::int32), caches), -1);
    best.eval();
    for (size_t i = 0; i < expected.size(); ++i, ++steps) {
      const int token = int(best.data<uint32_t>()[first + i]);
      if (token == expected[i]) continue;
      EXPECT_EQ(token, c.at("second_ids")[i]) << "token " << i;
      EXPECT_LE(c.at("gaps")[i].get<double>(), kRounding) << "token " << i;
      ++ties;
    }
  }
  std::cout << steps - ties << " of " << steps << " steps agree; in " << ties
            << " mlx-lm's two best are within float16 rounding and ours is the second" << std::endl;
}

}  // namespace
}  // namespace mlx_lm
