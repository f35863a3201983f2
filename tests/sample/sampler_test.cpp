// The filters against what mlx-lm's keep (tests/golden/dump_samplers.py), and the sampler's chances.
#include "mlx_lm/sample/sampler.h"

#include <set>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/join.h"
#include "mlx_lm/ops/sampling.h"

#include "tests/sample/sampling_case.h"

namespace mlx_lm::sample {
namespace {

using nlohmann::json;

// One filter after another, as make_sampler's options name them.
mx::array one_by_one(const json& o, mx::array x) {
  if (o.contains("top_p")) x = apply_top_p(x, o.at("top_p"));
  if (o.contains("min_p")) x = apply_min_p(x, o.at("min_p"), o.value("min_tokens_to_keep", 1));
  if (o.contains("xtc_threshold")) {
    x = apply_xtc(x, o.at("xtc_threshold"), o.value("xtc_special_tokens", std::vector<int>{}));
  }
  if (o.contains("top_k")) x = apply_top_k(x, o.at("top_k"));
  return x;
}

mx::array at_once(const json& o, const mx::array& x) {
  return ops::filter(x,
                     {.top_p = o.value("top_p", 0.f),
                      .min_p = o.value("min_p", 0.f),
                      .min_tokens_to_keep = o.value("min_tokens_to_keep", 1),
                      .xtc_threshold = o.value("xtc_threshold", 0.f),
                      .xtc_spared = o.value("xtc_special_tokens", std::vector<int>{}),
                      .top_k = o.value("top_k", 0)},
                     o.contains("xtc_threshold"));
}

void expect_kept(const json& o, const mx::array& x, const mx::array& filtered) {
  const auto before = numbers(x), after = numbers(filtered);
  std::vector<int> kept;
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < after.size(); ++i) {
    if (after[i] == -kInfinity) continue;
    ASSERT_EQ(after[i], before[i]) << o;
    kept.push_back(int(i));
    hash = (hash ^ uint32_t(i)) * 16777619u;
  }
  if (o.contains("kept")) {
    EXPECT_EQ(kept, o.at("kept").get<std::vector<int>>()) << o;
  } else {
    EXPECT_EQ(kept.size(), o.at("count").get<size_t>()) << o;
    EXPECT_EQ(hash, o.at("hash").get<uint32_t>()) << o;
  }
}

TEST(Filters, keep_what_mlx_lm_keeps) {
  const auto golden = golden_samplers().at("filters");
  ASSERT_GE(golden.size(), 900u);
  for (const auto& o : golden) {
    const auto x = drawn_row(o.at("logits"));
    by_every_backend([&] { expect_kept(o, x, one_by_one(o, x)); });
    expect_kept(o, x, at_once(o, x));
  }
}

// Log-probabilities are logits too.
TEST(Filters, do_not_care_about_a_constant) {
  const auto x = drawn_row({300, 5, 2, 0});
  const auto logprobs = x - mx::logsumexp(x, -1, true);
  by_every_backend([&] {
    for (const json& o : {json{{"top_p", 0.83}}, {{"min_p", 0.07}}, {{"top_k", 9}}, {{"xtc_threshold", 0.013}}}) {
      const auto kept = mx::isfinite(one_by_one(o, x)), same = mx::isfinite(one_by_one(o, logprobs));
      EXPECT_TRUE(mx::array_equal(kept, same).item<bool>()) << o;
    }
  });
}

// config.json may name end tokens past the vocabulary; MLX would write to them.
TEST(Filters, pass_over_special_tokens_that_are_not_there) {
  const auto x = mx::log(mx::array({0.5f, 0.3f, 0.2f}, {1, 3}));
  const auto p = numbers(x);
  by_every_backend([&] {
    EXPECT_EQ(numbers(apply_xtc(x, 0.1f, {-1, 3, 1 << 30, -(1 << 30), 0})),
              (std::vector<float>{p[0], -kInfinity, p[2]}));
    EXPECT_EQ(numbers(apply_xtc(x, 0.1f, {7})), (std::vector<float>{-kInfinity, -kInfinity, p[2]}));
  });
}

TEST(Filters, take_each_row_by_itself) {
  const auto x = mx::log(mx::array({0.6f, 0.3f, 0.1f, 0.1f, 0.2f, 0.7f}, {2, 1, 3}));
  by_every_backend([&] {
    for (const auto& result : {apply_top_p(x, 0.5f), apply_min_p(x, 0.6f), apply_top_k(x, 1)}) {
      EXPECT_EQ(result.shape(), x.shape());
      const auto found = numbers(result);
      for (int i = 0; i < 6; ++i) EXPECT_EQ(std::isfinite(found[i]), i == 0 || i == 5) << i;
    }
  });
}

TEST(Filters, leave_a_vocabulary_that_is_small_enough) {
  const auto x = row_of({-1, -2, -3});
  by_every_backend([&] {
    for (int k : {0, 3, 4, 1000}) EXPECT_TRUE(mx::array_equal(apply_top_k(x, k), x).item<bool>()) << k;
    EXPECT_TRUE(mx::array_equal(apply_min_p(x, 0.99f, 1000), x).item<bool>());
    EXPECT_TRUE(mx::array_equal(apply_top_p(x, 1), x).item<bool>());
  });
}

TEST(Sampler, is_greedy_at_temperature_0) {
  by_every_backend([] {
    const auto token =
        make_sampler({.temp = 0, .top_k = 3})(mx::array({-3.f, -1.f, -0.5f, -2.f, 9.f, 1.f, 2.f, 3.f}, {2, 4}));
    EXPECT_EQ(token.shape(), mx::Shape{2});
    EXPECT_EQ(numbers<uint32_t>(token), (std::vector<uint32_t>{2, 0}));
  });
}

// Against the exact probabilities of what the filters keep.
TEST(Sampler, draws_by_probability) {
  const int size = 300, rows = 4000;
  const auto x = drawn_row({size, 9, 1.5, 0});
  const json filters[] = {json::object(),
                          {{"top_p", 0.9}},
                          {{"min_p", 0.1}},
                          {{"top_k", 20}},
                          {{"xtc_threshold", 0.02}},
                          {{"top_p", 0.95}, {"min_p", 0.01}, {"xtc_threshold", 0.03}, {"top_k", 50}}};
  by_every_backend([&] {
    uint64_t seed = 1;
    for (const auto& o : filters) {
      const auto kept = numbers(one_by_one(o, x));
      for (float temp : {0.5f, 1.f, 1.7f}) {
        const auto sampler = make_sampler({.temp = temp,
                                           .top_p = o.value("top_p", 0.f),
                                           .min_p = o.value("min_p", 0.f),
                                           .top_k = o.value("top_k", 0),
                                           .xtc_probability = o.contains("xtc_threshold") ? 1.f : 0.f,
                                           .xtc_threshold = o.value("xtc_threshold", 0.f),
                                           .seed = seed++});
        std::vector<double> found(size), expected(size);
        for (uint32_t token : numbers<uint32_t>(sampler(mx::broadcast_to(x, {rows, size})))) found.at(token) += 1;
        double total = 0;
        for (int i = 0; i < size; ++i) total += expected[i] = std::exp(kept[i] / temp);
        for (double& e : expected) e *= rows / total;
        SCOPED_TRACE(o.dump() + " at " + std::to_string(temp));
        expect_chi_square(found, expected);
      }
    }
  });
}

TEST(Sampler, xtc_acts_with_its_probability) {
  const auto x = mx::broadcast_to(mx::log(mx::array({0.4f, 0.3f, 0.2f, 0.1f}, {1, 4})), {20000, 4});
  by_every_backend([&] {
    for (float p : {0.f, 0.3f, 1.f}) {
      std::vector<double> found(4);
      const auto sampler = make_sampler({.temp = 1, .xtc_probability = p, .xtc_threshold = 0.15f, .seed = 4});
      for (uint32_t token : numbers<uint32_t>(sampler(x))) found.at(token) += 1;
      std::vector<double> expected;  // 0 and 1 go, 2 is the least likely of the likely ones
      for (double share : {0.4 * (1 - p), 0.3 * (1 - p), 0.2 * (1 - p) + p * 2 / 3, 0.1 * (1 - p) + p / 3}) {
        expected.push_back(20000 * share);
      }
      expect_chi_square(found, expected);
    }
  });
}

// top_p leaves 0 and 1, and of these min_p would keep both; each filter must see what the one before it left.
TEST(Sampler, applies_its_filters_in_order) {
  const auto x = mx::broadcast_to(mx::log(mx::array({0.4f, 0.35f, 0.15f, 0.1f}, {1, 4})), {500, 4});
  by_every_backend([&] {
    const auto drawn = [&](SamplerOptions options) {
      options.seed = 5;
      const auto tokens = numbers<uint32_t>(make_sampler(options)(x));
      return std::set<uint32_t>(tokens.begin(), tokens.end());
    };
    using Tokens = std::set<uint32_t>;
    EXPECT_EQ(drawn({.temp = 1}), (Tokens{0, 1, 2, 3}));
    EXPECT_EQ(drawn({.temp = 1, .top_p = 0.7f}), (Tokens{0, 1}));
    EXPECT_EQ(drawn({.temp = 1, .top_p = 0.7f, .top_k = 1}), Tokens{0});
    EXPECT_EQ(drawn({.temp = 1, .top_k = 1, .xtc_probability = 1, .xtc_threshold = 0.12f}), Tokens{2})
        << "xtc comes before top_k: 0 and 1 are gone when it chooses";
    EXPECT_EQ(drawn({.temp = 100, .min_p = 0.3f}), (Tokens{0, 1, 2}))
        << "the filters see probabilities before the temperature";
  });
}

std::vector<uint32_t> tokens_of(const Sampler& sampler, const mx::array& x, int n) {
  std::vector<uint32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(sampler(x).item<uint32_t>());
  return tokens;
}

TEST(Sampler, repeats_itself_for_a_seed) {
  const auto x = drawn_row({1000, 3, 1, 0});
  by_every_backend([&] {
    const SamplerOptions options{.temp = 1, .top_p = 0.9f, .top_k = 300, .xtc_probability = 0.5f, .seed = 3};
    const auto first = tokens_of(make_sampler(options), x, 20);
    mx::random::seed(99);
    make_sampler({.temp = 1})(x);
    EXPECT_EQ(tokens_of(make_sampler(options), x, 20), first) << "whatever others draw";
    auto other = options;
    for (uint64_t seed : {uint64_t{4}, uint64_t{0}, uint64_t{3} + (uint64_t{1} << 40)}) {
      other.seed = seed;
      EXPECT_NE(tokens_of(make_sampler(other), x, 20), first) << seed;
    }
    EXPECT_NE(tokens_of(make_sampler({.temp = 1}), x, 20), tokens_of(make_sampler({.temp = 1}), x, 20)) << "no seed";
    const auto sampler = make_sampler(options), copy = sampler;
    auto mixed = tokens_of(sampler, x, 10);
    for (uint32_t token : tokens_of(copy, x, 10)) mixed.push_back(token);
    EXPECT_EQ(mixed, first) << "copies share the sequence";
  });
}

// A request's text is the same alone and in any row of a batch, whatever samplers the other rows have.
TEST(Sampler, draws_the_same_in_another_row) {
  const int size = 500;
  by_every_backend([&] {
    const auto others = mx::random::normal({4, size}, mx::float32, mx::random::key(8));
    const SamplerOptions options{.temp = 0.9f, .min_p = 0.01f, .xtc_probability = 0.3f, .seed = 11};
    std::vector<uint32_t> alone;
    for (int row : {0, 2, 4}) {
      const auto sampler = make_sampler(options), noise = make_sampler({.temp = 1.3f, .seed = 6});
      std::vector<uint32_t> tokens;
      for (int step = 0; step < 20; ++step) {
        const auto x = drawn_row({size, step, 1, 0});
        const auto batch =
            mx::concatenate({mx::slice(others, {0, 0}, {row, size}), x, mx::slice(others, {row, 0}, {4, size})}, 0);
        auto drawn = noise(mx::slice(batch, {0, 0}, {row + 1, size}));
        auto token = sampler(mx::slice(batch, {row, 0}, {row + 1, size}));
        mx::eval(drawn, token);
        tokens.push_back(token.item<uint32_t>());
      }
      if (alone.empty()) alone = tokens;
      EXPECT_EQ(tokens, alone) << row;
    }
  });
}

TEST(Sampler, takes_what_is_no_number) {
  const std::vector<std::pair<std::vector<float>, uint32_t>> rows = {
      {{kNaN, kNaN, kNaN}, 0},     {{-kInfinity, -kInfinity, -kInfinity}, 0},
      {{kNaN, -kInfinity, -5}, 2}, {{1, kInfinity, 2}, 1},
      {{-3e38f, 3e38f, kNaN}, 1},
  };
  by_every_backend([&] {
    for (const auto& [values, token] : rows) {
      for (const SamplerOptions& o : std::initializer_list<SamplerOptions>{
               {.temp = 1e-30f},
               {.temp = 1},
               {.temp = 1, .top_p = 0.9f, .min_p = 0.1f, .top_k = 2, .xtc_probability = 1}}) {
        EXPECT_EQ(make_sampler(o)(row_of(values)).item<uint32_t>(), token) << values[0] << ' ' << values[1];
      }
    }
  });
}

TEST(Sampler, is_a_step_that_can_be_joined) {
  ops::set_backend(ops::Backend::kernels);
  const auto x = drawn_row({777, 2, 1, 0});
  const SamplerOptions options{.temp = 1, .top_p = 0.9f, .seed = 2};
  const auto expected = make_sampler(options)(apply_top_k(x, 50)).item<uint32_t>();
  auto token = make_sampler(options)(apply_top_k(x, 50));
  EXPECT_EQ(token.dtype(), mx::uint32);
  ops::join({&token});
  EXPECT_EQ(std::string(token.primitive().name()), "Joined");
  EXPECT_EQ(token.item<uint32_t>(), expected);
}

TEST(Sampler, refuses_options_out_of_range) {
  EXPECT_THROW(make_sampler({.temp = -1}), RequestError);
  EXPECT_THROW(make_sampler({.temp = kNaN}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .top_p = 1.5}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .min_p = -0.1f}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .min_tokens_to_keep = 0}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .top_k = -1}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .xtc_probability = 2}), RequestError);
  EXPECT_THROW(make_sampler({.temp = 1, .xtc_threshold = 0.6f}), RequestError);
  const auto x = row_of({1, 2});
  EXPECT_THROW(apply_top_p(x, 2), RequestError);
  EXPECT_THROW(apply_min_p(x, kNaN), RequestError);
  EXPECT_THROW(apply_top_k(x, -1), RequestError);
  EXPECT_THROW(apply_xtc(x, 0.6f), RequestError);
}

}  // namespace
}  // namespace mlx_lm::sample
