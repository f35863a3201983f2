// A mixture of experts: which experts a token goes to, and what they make of it. On the CPU each is one step of our
// kernels, and what is added to a mixture (shared experts, the residual) is taken into its step; elsewhere MLX's
// operations. Every function here is lazy and gives float32 by the kernels, its input's type by MLX.
#pragma once

#include <optional>
#include <utility>

#include <mlx/mlx.h>

#include "mlx_lm/kernels/mixture.h"
#include "mlx_lm/ops/experts.h"

namespace mlx_lm::ops {

// How a router's logits become k experts and their weights.
struct Routing {
  using Scores = kernels::RouteArgs::Scores;
  Scores scores = Scores::softmax;  // over all experts, or by sigmoid of each; or of the chosen ones alone
  int k = 1;                        // experts of a token
  // The experts are in so many groups of consecutive ones, of which those with the largest sums of their group_best
  // largest scores are kept; the scores of the others count as 0.
  int groups = 1, groups_kept = 1, group_best = 2;
  bool normalize = false;  // weights are divided by their sum + epsilon
  float epsilon = 0;
  float scale = 1;  // multiplies the weights
};
// Shapes: logits (..., experts) -> indices (..., k) of integers, and weights (..., k).
// bias (experts): added to the scores for the choice alone. factors (experts): multiply the weights at the end.
// Requires 1 <= k <= experts, groups that divide the experts, 1 <= groups_kept <= groups.
std::pair<mx::array, mx::array> route(const mx::array& logits, const Routing& routing,
                                      const std::optional<mx::array>& bias = std::nullopt,
                                      const std::optional<mx::array>& factors = std::nullopt);

using ExpertActivation = kernels::ExpertActivation;
// up becomes what its expert makes of it; gate: null where the activation knows none.
mx::array activate(ExpertActivation activation, const mx::array* gate, const mx::array& up);

// A layer of all experts. bias: (experts, rows).
struct ExpertLayer {
  const ExpertMatrices& weight;
  const std::optional<mx::array>& bias;
};
// sum over j of weights[..., j] * down(activation(gate(x), up(x))) of expert indices[..., j].
// Shapes: x (..., E), indices and weights (..., k) -> (..., E'). gate: null where the activation knows none.
mx::array mix_experts(const mx::array& x, const ExpertLayer* gate, const ExpertLayer& up, const ExpertLayer& down,
                      ExpertActivation activation, const mx::array& indices, const mx::array& weights);

// mixture + sigmoid(gate) * y. Shapes: mixture and y (..., E), gate (..., 1).
mx::array add_gated(const mx::array& mixture, const mx::array& y, const mx::array& gate);

// a + b where b is a mixture that has not been computed yet: a is added in the same step. Nothing otherwise.
std::optional<mx::array> add_to_mixture(const mx::array& a, const mx::array& b);

}  // namespace mlx_lm::ops
