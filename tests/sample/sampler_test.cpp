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

// One draw decides for the whole batch whether the likely tokens go.
TEST(Filters, xtc_acts_with_its_probability) {
  const auto x = mx::log(mx::array({0.4f, 0.3f, 0.2f, 0.1f, 0.4f, 0.3f, 0.2f, 0.1f}, {2, 4}));
  const auto dropped = [&](float probability) {
    auto result = mx::contiguous(apply_xtc(x, probability, 0.15f, {}));
    result.eval();
    const float* v = result.data<float>();
    const auto gone = [](float f) { return f == -std::numeric_limits<float>::infinity(); };
    EXPECT_EQ(gone(v[0]), gone(v[4])) << "both rows alike";
    EXPECT_EQ(gone(v[0]), gone(v[1]));
    EXPECT_FALSE(gone(v[2]) || gone(v[3])) << "the least likely of the likely ones stays";
    return gone(v[0]);
  };
  mx::random::seed(11);
  int count = 0;
  const int n = 2000;
  for (int i = 0; i < n; ++i) count += dropped(0.3f);
  EXPECT_NEAR(count / double(n), 0.3, 4 * std::sqrt(0.25 / n));
  EXPECT_TRUE(dropped(1));
  EXPECT_FALSE(dropped(0));
}

// config.json may name end tokens past the vocabulary; MLX would write to them.
TEST(Filters, xtc_passes_over_special_tokens_that_are_not_there) {
  const auto x = mx::log(mx::array({0.5f, 0.3f, 0.2f}, {1, 3}));
  auto result = mx::contiguous(apply_xtc(x, 1, 0.1f, {-1, 3, 1 << 30, -(1 << 30), 0}));
  result.eval();
  EXPECT_EQ(result.data<float>()[0], std::log(0.5f)) << "special";
  EXPECT_EQ(result.data<float>()[1], -std::numeric_limits<float>::infinity());
  EXPECT_EQ(result.data<float>()[2], std::log(0.2f)) << "the least likely";
  auto none = mx::contiguous(apply_xtc(x, 1, 0.1f, {7}));
  none.eval();
  EXPECT_EQ(none.data<float>()[0], -std::numeric_limits<float>::infinity());
}

TEST(Filters, take_each_row_by_itself) {
  const auto x = mx::log(mx::array({0.6f, 0.3f, 0.1f, 0.1f, 0.2f, 0.7f}, {2, 3}));
  for (const auto& result : {apply_top_p(x, 0.5f), apply_min_p(x, 0.6f, 1), apply_top_k(x, 1)}) {
    auto plain = mx::contiguous(result);
    plain.eval();
    for (int i = 0; i < 6; ++i) EXPECT_EQ(std::isfinite(plain.data<float>()[i]), i == 0 || i == 5) << i;
  }
}

TEST(Filters, leave_a_vocabulary_that_is_small_enough) {
  const auto x = to_array({-1, -2, -3});
  for (int k : {3, 4, 1000}) EXPECT_TRUE(mx::array_equal(apply_top_k(x, k), x).item<bool>()) << k;
  EXPECT_TRUE(mx::array_equal(apply_min_p(x, 0.99f, 1000), x).item<bool>());
}

// top_p leaves 0 and 1, and of these min_p would keep both; each filter must see what the one before it left.
TEST(Sampler, applies_its_filters_in_order) {
  std::vector<float> p{0.4f, 0.35f, 0.15f, 0.1f};
  for (auto& x : p) x = std::log(x);
  mx::random::seed(5);
  std::vector<int> count(4);
  const auto draw = [&](const SamplerOptions& options) {
    count.assign(4, 0);
    auto tokens = mx::astype(make_sampler(options)(mx::broadcast_to(to_array(p), {500, 4})), mx::int32);
    tokens.eval();
    for (int i = 0; i < 500; ++i) ++count[tokens.data<int>()[i]];
  };
  draw({.temp = 1, .top_p = 0.7f});
  EXPECT_TRUE(count[0] > 0 && count[1] > 0 && count[2] == 0 && count[3] == 0);
  draw({.temp = 1, .top_p = 0.7f, .top_k = 1});
  EXPECT_EQ(count[0], 500);
  draw({.temp = 1, .top_k = 1, .xtc_probability = 1, .xtc_threshold = 0.12f});
  EXPECT_EQ(count[2], 500) << "xtc comes before top_k: 0 and 1 are gone when it chooses";
  draw({.temp = 100, .min_p = 0.3f});
  EXPECT_TRUE(count[2] > 0 && count[3] == 0) << "the filters see probabilities before the temperature";
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

}  // namespace
}  // namespace mlx_lm::sample
