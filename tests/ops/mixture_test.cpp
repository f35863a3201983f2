// Routers and mixtures, by our kernels and by MLX, against plain loops.
#include "mlx_lm/ops/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/products.h"

#include "tests/ops/both_backends.h"

namespace mlx_lm::ops {
namespace {

using Scores = Routing::Scores;

std::vector<float> floats(mx::array x) {
  x = mx::contiguous(mx::astype(x, mx::float32));
  x.eval();
  return {x.data<float>(), x.data<float>() + x.size()};
}

// {expert, weight}, ascending.
using Choice = std::vector<std::pair<int, double>>;

std::vector<int> best(const std::vector<double>& x, int k) {
  std::vector<int> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return x[a] > x[b]; });
  order.resize(k);
  return order;
}

Choice expected_choice(const float* logits, int experts, const Routing& r, const std::vector<float>& bias,
                       const std::vector<float>& factors) {
  std::vector<double> scores(logits, logits + experts);
  double sum = 0;
  for (double& s : scores) sum += std::exp(s);
  for (double& s : scores) {
    if (r.scores == Scores::softmax) s = std::exp(s) / sum;
    if (r.scores == Scores::sigmoid) s = 1 / (1 + std::exp(-s));
  }
  auto choice = scores;
  for (int e = 0; e < experts && !bias.empty(); ++e) choice[e] += bias[e];
  if (r.groups > 1) {
    const int size = experts / r.groups;
    std::vector<double> sums;
    for (int g = 0; g < r.groups; ++g) {
      std::vector<double> own(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      sums.push_back(0);
      for (int i : best(own, std::min(size, r.group_best))) sums.back() += own[i];
    }
    const auto kept = best(sums, r.groups_kept);
    for (int e = 0; e < experts; ++e) {
      if (std::find(kept.begin(), kept.end(), e / size) == kept.end()) choice[e] = 0;
    }
  }
  const auto chosen = best(choice, r.k);
  double total = r.epsilon, exponentials = 0;
  for (int e : chosen) {
    if (r.scores == Scores::chosen_sigmoid) scores[e] = 1 / (1 + std::exp(-scores[e]));
    total += scores[e], exponentials += std::exp(scores[e]);
  }
  Choice found;
  for (int e : chosen) {
    double weight = r.scores == Scores::chosen ? std::exp(scores[e]) / exponentials : scores[e];
    if (r.normalize) weight /= total;
    found.emplace_back(e, weight * r.scale * (factors.empty() ? 1 : factors[e]));
  }
  std::sort(found.begin(), found.end());
  return found;
}

class MixtureTest : public BothBackends {
 protected:
  void SetUp() override { kernels::set_activations(kernels::Activations::float32); }
  void TearDown() override {
    BothBackends::TearDown();
    kernels::set_activations(kernels::Activations::int16);
  }

  void expect_route(int experts, const Routing& r, bool with_bias, bool with_factors) {
    const auto logits = random({2, 9, experts});
    const auto bias = with_bias ? std::optional(random({experts})) : std::nullopt;
    const auto factors = with_factors ? std::optional(random({experts})) : std::nullopt;
    const auto b = bias ? floats(*bias) : std::vector<float>{}, f = factors ? floats(*factors) : std::vector<float>{};
    const auto l = floats(logits);
    for (auto backend : {Backend::kernels, Backend::mlx}) {
      set_backend(backend);
      const auto [indices, weights] = route(logits, r, bias, factors);
      ASSERT_EQ(indices.shape(), (mx::Shape{2, 9, r.k}));
      const auto i = floats(indices), w = floats(weights);
      for (int row = 0; row < 18; ++row) {
        Choice found;
        for (int j = 0; j < r.k; ++j) found.emplace_back(int(i[row * r.k + j]), w[row * r.k + j]);
        std::sort(found.begin(), found.end());
        const auto wanted = expected_choice(&l[row * experts], experts, r, b, f);
        for (int j = 0; j < r.k; ++j) {
          ASSERT_EQ(found[j].first, wanted[j].first) << "row " << row << " of backend " << int(backend);
          ASSERT_NEAR(found[j].second, wanted[j].second, 1e-5) << "row " << row << " of backend " << int(backend);
        }
      }
    }
  }
};

TEST_F(MixtureTest, routes) {
  expect_route(16, {.k = 4}, false, false);
  expect_route(7, {.k = 7, .normalize = true}, false, true);
  expect_route(128, {.k = 8, .normalize = true, .epsilon = 0.5f}, false, false);
  expect_route(16, {.scores = Scores::chosen, .k = 4}, false, true);
  expect_route(16, {.scores = Scores::sigmoid, .k = 1}, false, false);
  expect_route(16, {.scores = Scores::chosen_sigmoid, .k = 1}, false, false);
  expect_route(16, {.scores = Scores::chosen_sigmoid, .k = 5, .normalize = true}, false, true);
  expect_route(60, {.scores = Scores::sigmoid, .k = 6, .normalize = true, .scale = 2.5f}, true, false);
}

// Both sigmoids are 1 in float32.
TEST_F(MixtureTest, of_large_logits_the_larger_is_chosen) {
  const mx::array logits({20.f, 3.f, 21.f}, {1, 3});
  for (auto backend : {Backend::kernels, Backend::mlx}) {
    set_backend(backend);
    const auto [indices, weights] = route(logits, {.scores = Scores::chosen_sigmoid, .k = 1});
    EXPECT_EQ(floats(indices), std::vector{2.f});
    EXPECT_EQ(floats(weights), std::vector{1.f});
  }
}

TEST_F(MixtureTest, routes_by_groups) {
  Routing r{.scores = Scores::sigmoid, .k = 3, .groups = 4, .groups_kept = 2, .normalize = true, .scale = 1.5f};
  expect_route(16, r, true, false);
  expect_route(16, r, false, false);
  r.group_best = 1;
  r.scores = Scores::softmax;
  expect_route(24, r, false, false);
  r.groups = r.groups_kept = 16;  // all are kept, each with the one score that it has
  r.group_best = 2;
  expect_route(16, r, true, false);
  // Fewer experts in the groups that are kept than are wanted: the others count as 0.
  expect_route(12, {.scores = Scores::sigmoid, .k = 2, .groups = 12, .groups_kept = 1}, true, false);
}

TEST_F(MixtureTest, a_route_of_no_numbers_stays_within_the_experts) {
  const auto logits = mx::full({3, 8}, NAN);
  const auto [indices, weights] = route(logits, {.scores = Scores::sigmoid, .k = 5, .groups = 4, .groups_kept = 2});
  for (float i : floats(indices)) EXPECT_TRUE(i >= 0 && i < 8) << i;
}

constexpr int kExperts = 5, kIn = 64, kHidden = 32;

TEST_F(MixtureTest, mixes) {
  using A = ExpertActivation;
  for (bool quantized : {false, true}) {
    for (auto a : {A::swiglu, A::geglu_tanh, A::geglu_erf, A::clamped_swiglu, A::relu2, A::gelu_tanh}) {
      for (bool biased : {false, true}) {
        SCOPED_TRACE(fmt::format("activation {}, quantized {}, biased {}", int(a), quantized, biased));
        const bool gated = a != A::relu2 && a != A::gelu_tanh;
        const auto wg = random({kExperts, kHidden, kIn}), wu = random({kExperts, kHidden, kIn}),
                   wd = random({kExperts, kIn, kHidden});
        const auto bias = [&](int size) { return biased ? std::optional(random({kExperts, size})) : std::nullopt; };
        const auto bg = bias(kHidden), bu = bias(kHidden), bd = bias(kIn);
        for (int length : {1, 40}) {
          const auto x = random({2, length, kIn}) * mx::array(0.3f), more = random({2, length, kIn}),
                     other = random({2, length, kIn}), share = random({2, length, 1});
          const auto ids = mx::random::randint(0, kExperts, {2, length, 3}, mx::int32, mx::random::key(length));
          const auto weights = random({2, length, 3});
          expect_same(
              [&] {
                const auto stack = [&](const mx::array& w) {
                  if (!quantized) return ExpertMatrices::dense(w);
                  auto parts = mx::quantize(w, 32, 8);
                  return ExpertMatrices::quantized(parts[0], parts[1], parts[2], {32, 8, "affine"});
                };
                const auto g = stack(wg), u = stack(wu), d = stack(wd);
                const ExpertLayer gate{g, bg};
                auto y = mix_experts(x, gated ? &gate : nullptr, {u, bu}, {d, bd}, a, ids, weights);
                y = add_gated(y, other, share);
                return residual_add(more, y);
              },
              5e-2f, "mixture");
          // And the sum itself, by plain arithmetic.
          const auto rows = mx::expand_dims(x, {-2, -3});
          const auto product = [&](const mx::array& in, const mx::array& w, const std::optional<mx::array>& b) {
            auto y = mx::squeeze(mx::matmul(in, mx::swapaxes(mx::take(w, ids, 0), -1, -2)), -2);
            return b ? y + mx::take(*b, ids, 0) : y;
          };
          if (quantized) continue;
          const auto gates = product(rows, wg, bg);
          const auto hidden = activate(a, gated ? &gates : nullptr, product(rows, wu, bu));
          const auto y = product(mx::expand_dims(hidden, -2), wd, bd);
          const auto wanted = mx::sum(y * mx::expand_dims(weights, -1), -2);
          const auto g = ExpertMatrices::dense(wg), u = ExpertMatrices::dense(wu), d = ExpertMatrices::dense(wd);
          const ExpertLayer gate{g, bg};
          const auto found = mix_experts(x, gated ? &gate : nullptr, {u, bu}, {d, bd}, a, ids, weights);
          EXPECT_LT(difference(found, wanted) / mx::max(mx::abs(wanted)).item<float>(), 1e-5f);
        }
      }
    }
  }
}

TEST_F(MixtureTest, takes_in_what_is_added) {
  const auto w = ExpertMatrices::dense(random({kExperts, kIn, kIn}));
  const std::optional<mx::array> none;
  const auto x = random({1, 2, kIn}), more = random({1, 2, kIn});
  const auto ids = mx::array({0, 1, 2, 4}, {1, 2, 2});
  const auto mix = [&] {
    return mix_experts(x, nullptr, {w, none}, {w, none}, ExpertActivation::relu2, ids, mx::ones({1, 2, 2}));
  };
  auto apart = mix();
  apart.eval();
  const auto sum = residual_add(more, mix());
  EXPECT_EQ(sum.inputs().size(), 4u) << "one step";
  EXPECT_LT(difference(sum, apart + more), 1e-4f);
  EXPECT_LT(difference(residual_add(more, apart), apart + more), 1e-6f) << "one that has been computed";
}

TEST_F(MixtureTest, matrices_one_by_one_are_a_stack) {
  const auto weight = random({kExperts, kHidden, kIn});
  const auto parts = mx::quantize(weight, 32, 4);
  const auto x = random({4, kIn});
  const auto ids = mx::array({0, 4, 2, 1, 1, 3, 0, 0}, {4, 2});
  const auto one = [&](const mx::array& stack, int e) { return mx::take(stack, e, 0); };
  for (auto backend : {Backend::kernels, Backend::mlx}) {
    set_backend(backend);
    std::vector<Matrix> dense, quantized;
    for (int e = 0; e < kExperts; ++e) {
      dense.push_back(Matrix::dense(one(weight, e)));
      quantized.push_back(Matrix::quantized(one(parts[0], e), one(parts[1], e), one(parts[2], e), {32, 4, "affine"}));
    }
    const auto a = ExpertMatrices::stacked(dense), b = ExpertMatrices::stacked(quantized);
    EXPECT_EQ(a.experts(), kExperts);
    EXPECT_EQ(a.nbytes(), weight.nbytes());
    EXPECT_EQ(b.rows(), kHidden);
    EXPECT_TRUE(
        mx::array_equal(gather_matmul(x, a, ids), gather_matmul(x, ExpertMatrices::dense(weight), ids)).item<bool>());
    const auto whole = ExpertMatrices::quantized(parts[0], parts[1], parts[2], {32, 4, "affine"});
    EXPECT_TRUE(mx::array_equal(gather_matmul(x, b, ids), gather_matmul(x, whole, ids)).item<bool>());
    EXPECT_EQ(b.nbytes(), whole.nbytes());
    EXPECT_THROW(ExpertMatrices::stacked({}), std::exception);
    EXPECT_THROW(ExpertMatrices::stacked({dense[0], quantized[0]}), std::exception);
    EXPECT_THROW(ExpertMatrices::stacked({dense[0], Matrix::dense(random({kHidden, 2 * kIn}))}), std::exception);
  }
}

}  // namespace
}  // namespace mlx_lm::ops
