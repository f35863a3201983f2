// A mixture of experts but for its router's product: which experts a token goes to, and what they make of it.
#pragma once

#include "mlx_lm/kernels/experts.h"

namespace mlx_lm::kernels {

// How a router's logits become k experts and their weights.
struct RouteArgs {
  enum class Scores {
    softmax,         // over all experts
    sigmoid,         // of each
    chosen,          // softmax over the k largest logits
    chosen_sigmoid,  // sigmoid of each of the k largest logits, which may round to the same
  };
  Scores scores = Scores::softmax;
  int k = 1;
  // The experts are in so many groups of consecutive ones, of which those with the largest sums of their group_best
  // largest scores are kept: the scores of the others count as 0.
  int groups = 1, groups_kept = 1, group_best = 2;
  const float* bias = nullptr;     // (experts): added to the scores for the choice alone
  const float* factors = nullptr;  // (experts): multiply the weights at the end
  bool normalize = false;          // the weights of a token are divided by their sum + epsilon
  float epsilon = 0;
  float scale = 1;  // multiplies the weights
};
// Of equal scores the first expert's counts as the larger. logits: (n, experts); chosen, weights: (n, k), the largest
// score first. Requires 1 <= k <= experts, groups that divide the experts, 1 <= groups_kept <= groups.
void route(const float* logits, int n, int experts, const RouteArgs& args, int32_t* chosen, float* weights);

// What stands between an expert's products.
enum class ExpertActivation {
  swiglu,          // silu(gate) * up
  geglu_tanh,      // gelu(gate) * up, gelu by tanh
  geglu_erf,       // the same by erf
  clamped_swiglu,  // gpt-oss: g sigmoid(1.702 g) * (u + 1), g = min(gate, 7), u = clamp(up, -7, 7)
  relu2,           // max(up, 0)^2; there is no gate
  gelu_tanh,       // gelu(up); there is no gate
};

// Sums that are added to a mixture's own: y, or, with a gate, sigmoid(gate) * y.
struct Addend {
  const float* y = nullptr;     // (n, cols)
  const float* gate = nullptr;  // (n), or null
};

// Experts of two or three matrices.
struct MixtureArgs {
  std::optional<ExpertStack> gate;   // (hidden, cols)
  ExpertStack up, down;              // (hidden, cols), (out, hidden)
  const float* gate_bias = nullptr;  // (experts, hidden), or null
  const float* up_bias = nullptr;    // the same
  const float* down_bias = nullptr;  // (experts, out)
  ExpertActivation activation = ExpertActivation::swiglu;
  int k = 1;
};
// out[i] = sum over j < k of weights[i][j] * (down(activation(gate(x[i]), up(x[i]))) of expert chosen[i][j]) + addends.
// An expert that does not exist gives nothing. x: (n, cols); chosen, weights: (n, k); out: (n, out).
void mix_experts(const MixtureArgs& args, const float* x, const int32_t* chosen, const float* weights, int n,
                 std::span<const Addend> addends, float* out);

}  // namespace mlx_lm::kernels
