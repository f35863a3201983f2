#include "mlx_lm/kernels/mixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

// The place of the largest of those that are not taken; a NaN is only taken where nothing else is left.
int largest(const float* x, int n, const std::vector<bool>& taken) {
  int best = -1;
  for (int i = 0; i < n; ++i) {
    if (!taken[i] && (best < 0 || x[i] > x[best] || std::isnan(x[best]))) best = i;
  }
  return best;
}

// exp(x - max(x)) / sum
void softmax(float* x, int n) {
  const Table& t = table();
  const float sum = t.exp_sum(x, n, t.max(x, n));
  for (int i = 0; i < n; ++i) x[i] /= sum;
}

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

// Sets the scores of groups that are not kept to 0.
void keep_groups(const RouteArgs& args, float* scores, int experts) {
  const int size = experts / args.groups;
  std::vector<float> sums(args.groups);
  for (int g = 0; g < args.groups; ++g) {
    std::vector<bool> taken(size);
    for (int i = 0; i < std::min(args.group_best, size); ++i) {
      const int best = largest(scores + g * size, size, taken);
      sums[g] += scores[g * size + best];
      taken[best] = true;
    }
  }
  std::vector<bool> kept(args.groups);
  for (int i = 0; i < args.groups_kept; ++i) kept[largest(sums.data(), args.groups, kept)] = true;
  for (int g = 0; g < args.groups; ++g) {
    if (!kept[g]) std::fill_n(scores + g * size, size, 0.f);
  }
}

void route_row(const float* logits, int experts, const RouteArgs& args, int32_t* chosen, float* weights) {
  using Scores = RouteArgs::Scores;
  std::vector<float> scores(logits, logits + experts);
  if (args.scores == Scores::softmax) softmax(scores.data(), experts);
  if (args.scores == Scores::sigmoid) {
    for (float& score : scores) score = sigmoid(score);
  }
  std::vector<float> choice = scores;
  if (args.bias != nullptr) {
    for (int e = 0; e < experts; ++e) choice[e] += args.bias[e];
  }
  if (args.groups > 1) keep_groups(args, choice.data(), experts);
  std::vector<bool> taken(experts);
  for (int j = 0; j < args.k; ++j) {
    const int best = largest(choice.data(), experts, taken);
    taken[best] = true;
    chosen[j] = best;
    weights[j] = scores[best];
  }
  if (args.scores == Scores::chosen) softmax(weights, args.k);
  if (args.scores == Scores::chosen_sigmoid) std::transform(weights, weights + args.k, weights, sigmoid);
  const float factor = args.scale / (args.normalize ? std::accumulate(weights, weights + args.k, args.epsilon) : 1.f);
  for (int j = 0; j < args.k; ++j) weights[j] *= args.factors != nullptr ? factor * args.factors[chosen[j]] : factor;
}

// rows[t] += bias[experts[t]]
void add_biases(const float* bias, const ExpertRows& rows, int experts, int width, float* y) {
  if (bias == nullptr) return;
  parallel_pieces(rows.n, 8, 1. * rows.n * width, [&](int first, int last) {
    for (size_t t = first; t < static_cast<size_t>(last); ++t) {
      if (rows.experts[t] < 0 || rows.experts[t] >= experts) continue;
      const float* from = bias + static_cast<size_t>(rows.experts[t]) * width;
      for (int i = 0; i < width; ++i) y[t * width + i] += from[i];
    }
  });
}

template <class F>
void in_pieces(size_t n, const F& f) {
  constexpr size_t kPiece = 4096;
  parallel(static_cast<int>((n + kPiece - 1) / kPiece), 1. * n, [&](int piece) {
    for (size_t i = piece * kPiece; i < std::min(n, (piece + 1) * kPiece); ++i) f(i);
  });
}

// So that g sigmoid(1.702 g) (u + 1) is silu(gate) * up.
void clamp(float* gate, float* up, size_t n) {
  constexpr float kLimit = 7, kAlpha = 1.702f;
  in_pieces(n, [&](size_t i) {
    gate[i] = kAlpha * std::min(gate[i], kLimit);
    up[i] = (std::clamp(up[i], -kLimit, kLimit) + 1) / kAlpha;
  });
}

// Into up.
void activate(ExpertActivation activation, float* gate, float* up, size_t n) {
  switch (activation) {
    case ExpertActivation::clamped_swiglu:
      clamp(gate, up, n);
      [[fallthrough]];
    case ExpertActivation::swiglu:
      return swiglu(gate, up, n, up);
    case ExpertActivation::geglu_tanh:
      return geglu(gate, up, n, Gelu::tanh, up);
    case ExpertActivation::geglu_erf:
      return geglu(gate, up, n, Gelu::erf, up);
    case ExpertActivation::gelu_tanh:
      return geglu(up, nullptr, n, Gelu::tanh, up);
    case ExpertActivation::relu2:
      return in_pieces(n, [&](size_t i) { up[i] = up[i] > 0 ? up[i] * up[i] : 0; });
  }
}

// y: (n, k, width).
void weighted_sum(const float* y, const float* weights, int n, int k, int width, std::span<const Addend> addends,
                  float* out) {
  constexpr int kColumns = 1024;
  const int pieces = (width + kColumns - 1) / kColumns;
  const auto weighted_sums = table().weighted_sums;
  parallel(n * pieces, 1. * n * width * (k + addends.size()), [&](int task) {
    const size_t i = task / pieces;
    const int first = task % pieces * kColumns, count = std::min(kColumns, width - first);
    const size_t at = i * width + first;
    float sums[kColumns] = {};
    const Rows rows{y, Type::f32, static_cast<size_t>(width)};
    weighted_sums(rows.from(i * k, first), k, count, weights + i * k, k, 1, sums, kColumns);
    for (const Addend& addend : addends) {
      const float share = addend.gate != nullptr ? sigmoid(addend.gate[i]) : 1.f;
      for (int c = 0; c < count; ++c) sums[c] += share * addend.y[at + c];
    }
    std::copy_n(sums, count, out + at);
  });
}

}  // namespace

void route(const float* logits, int n, int experts, const RouteArgs& args, int32_t* chosen, float* weights) {
  parallel_pieces(n, 8, 4. * n * experts * (args.k + 4), [&](int first, int last) {
    for (size_t i = first; i < static_cast<size_t>(last); ++i) {
      route_row(logits + i * experts, experts, args, chosen + i * args.k, weights + i * args.k);
    }
  });
}

void mix_experts(const MixtureArgs& a, const float* x, const int32_t* chosen, const float* weights, int n,
                 std::span<const Addend> addends, float* out) {
  const size_t products = static_cast<size_t>(n) * a.k, hidden = a.up.rows(), width = a.down.rows();
  const int experts = a.up.experts();
  const ExpertRows first{chosen, static_cast<int>(products), a.k}, second{chosen, static_cast<int>(products), 1};
  // Not kept: after a long prompt they would be large.
  const std::unique_ptr<float[]> memory(new float[products * (hidden * (a.gate ? 2 : 1) + width)]);
  float* const up = memory.get();
  float* const y = up + products * hidden;
  float* const gate = y + products * width;
  const ExpertProduct both[] = {{a.up, up}, {a.gate.value_or(a.up), gate}};
  expert_matmul(std::span(both, a.gate ? 2 : 1), x, first);
  add_biases(a.up_bias, first, experts, static_cast<int>(hidden), up);
  if (a.gate) add_biases(a.gate_bias, first, experts, static_cast<int>(hidden), gate);
  activate(a.activation, gate, up, products * hidden);
  expert_matmul(a.down, up, second, y);
  add_biases(a.down_bias, second, experts, static_cast<int>(width), y);
  weighted_sum(y, weights, n, a.k, static_cast<int>(width), addends, out);
}

}  // namespace mlx_lm::kernels
