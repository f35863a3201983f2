// Routers and mixtures; against plain loops: tests/ops/mixture_test.cpp.
#include "mlx_lm/kernels/mixture.h"

#include "tests/kernels/products.h"

namespace mlx_lm::kernels {
namespace {

TEST(Mixture, of_equal_scores_the_first_are_chosen) {
  const std::vector<float> logits(2 * 6, 0.5f);
  std::vector<int32_t> chosen(2 * 3);
  std::vector<float> weights(2 * 3);
  route(logits.data(), 2, 6, {.scores = RouteArgs::Scores::sigmoid, .k = 3, .normalize = true}, chosen.data(),
        weights.data());
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1, 2, 0, 1, 2}));
  for (float weight : weights) EXPECT_FLOAT_EQ(weight, 1.f / 3);
}

TEST(Mixture, any_number_of_threads) {
  constexpr int kExperts = 6, kCols = 64, kHidden = 96, kTokens = 50, kActive = 3;
  const auto gate = random_numbers(kExperts * kHidden * kCols, 1), up = random_numbers(kExperts * kHidden * kCols, 2),
             down = random_numbers(kExperts * kHidden * kCols, 3), x = random_numbers(kTokens * kCols, 4),
             logits = random_numbers(kTokens * kExperts, 5), share = random_numbers(kTokens, 6);
  const auto stack = [](const std::vector<float>& w, int rows, int cols) {
    std::vector<DenseMatrix> matrices;
    for (int e = 0; e < kExperts; ++e) matrices.push_back({rows, cols, Type::f32, w.data() + e * rows * cols});
    return matrices;
  };
  const auto g = stack(gate, kHidden, kCols), u = stack(up, kHidden, kCols), d = stack(down, kCols, kHidden);
  for (auto activation : {ExpertActivation::swiglu, ExpertActivation::clamped_swiglu, ExpertActivation::relu2}) {
    expect_same_for_any_threads([&] {
      std::vector<int32_t> chosen(kTokens * kActive);
      std::vector<float> weights(kTokens * kActive), out(kTokens * kCols, NAN);
      route(logits.data(), kTokens, kExperts, {.k = kActive}, chosen.data(), weights.data());
      MixtureArgs args{.up = {.dense = u}, .down = {.dense = d}, .activation = activation, .k = kActive};
      if (activation != ExpertActivation::relu2) args.gate = ExpertStack{.dense = g};
      const Addend addends[] = {{x.data(), nullptr}, {x.data(), share.data()}};
      mix_experts(args, x.data(), chosen.data(), weights.data(), kTokens, addends, out.data());
      return out;
    });
  }
}

}  // namespace
}  // namespace mlx_lm::kernels
