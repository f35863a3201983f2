// The filters against what mlx-lm's keep (tests/golden/dump_samplers.py), and the sampler's chances.
#include "mlx_lm/sample/sampler.h"

#include <cmath>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"

namespace mlx_lm::sample {
namespace {

using nlohmann::json;

mx::array to_array(const std::vector<float>& values) {
  return mx::array(values.begin(), {1, int(values.size())}, mx::float32);
}

mx::array filtered(const json& entry, const mx::array& x) {
  const std::string name = entry.at("filter");
  if (name == "top_p") return apply_top_p(x, entry.at("top_p"));
  if (name == "min_p") return apply_min_p(x, entry.at("min_p"), entry.at("min_tokens_to_keep"));
  if (name == "top_k") return apply_top_k(x, entry.at("top_k"));
  return apply_xtc(x, 1, entry.at("threshold"), entry.at("special_tokens"));
}

TEST(Filters, keep_what_mlx_lm_keeps) {
  const auto golden = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/samplers.json"));
  ASSERT_GE(golden.at("filters").size(), 40u);
  for (const auto& entry : golden.at("filters")) {
    const auto values = golden.at("vectors").at(entry.at("vector")).get<std::vector<float>>();
    auto result = mx::contiguous(filtered(entry, to_array(values)));
    result.eval();
    std::vector<int> kept;
    for (size_t i = 0; i < values.size(); ++i) {
      const float found = result.data<float>()[i];
      if (found == values[i]) {
        kept.push_back(int(i));
      } else {
        EXPECT_EQ(found, -std::numeric_limits<float>::infinity()) << entry;
      }
    }
    EXPECT_EQ(kept, entry.at("kept").get<std::vector<int>>()) << entry;
  }
}

TEST(Sampler, is_greedy_at_temperature_0) {
  auto token = make_sampler({.temp = 0, .top_k = 3})(to_array({-3, -1, -0.5, -2}));
  EXPECT_EQ(token.item<int>(), 2);
}

TEST(Sampler, draws_by_probability_and_temperature) {
  const std::vector<double> p{0.5, 0.3, 0.15, 0.05};
  std::vector<float> logprobs;
  for (double x : p) logprobs.push_back(float(std::log(x)));
  for (float temp : {0.7f, 1.f, 1.5f}) {
    mx::random::seed(7);
    const auto sampler = make_sampler({.temp = temp});
    const int n = 20000;
    auto tokens = mx::astype(sampler(mx::broadcast_to(to_array(logprobs), {n, 4})), mx::int32);
    tokens.eval();
    std::vector<double> count(4), wanted(4);
    for (int i = 0; i < n; ++i) count[tokens.data<int>()[i]] += 1;
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += wanted[i] = std::pow(p[i], 1 / temp);
    // Four standard deviations of the count.
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(count[i] / n, wanted[i] / sum, 4 * std::sqrt(0.25 / n)) << "temp " << temp;
  }
}

TEST(Sampler, repeats_itself_for_a_seed) {
  const auto draw = [] {
    mx::random::seed(3);
    const auto sampler = make_sampler({.temp = 1, .top_p = 0.9f, .min_p = 0.01f, .top_k = 3, .xtc_probability = 0.5f});
    std::vector<int> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler(to_array({-1, -1.5, -2, -3, -2.5})).item<int>());
    return ids;
  };
  EXPECT_EQ(draw(), draw());
}

TEST(Sampler, refuses_options_out_of_range) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(make_sampler({.temp = -1}), RequestError);
  EXPECT_THROW(make_sampler({.temp = nan}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .top_p = 1.5}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .min_p = -0.1f}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .min_tokens_to_keep = 0}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .top_k = -1}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .xtc_probability = 2}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .xtc_threshold = 0.6f}), RequestError);
}

TEST(Sampler, passes_over_special_tokens_that_the_model_lacks) {
  const auto logprobs = mx::array({-1.f, -1.5f, -2.f, -9.f}, {1, 4});
  const auto expected = apply_xtc(logprobs, 1, 0.1f, {1});
  for (int id : {-1, -1000000000, 4, 1000000000}) {
    EXPECT_TRUE(mx::array_equal(apply_xtc(logprobs, 1, 0.1f, {id, 1}), expected).item<bool>()) << id;
    EXPECT_EQ(apply_xtc(logprobs, 1, 0.1f, {id}).shape(), logprobs.shape());
  }
}

}  // namespace
}  // namespace mlx_lm::sample
