#include "mlx_lm/ops/mixture.h"

#include <vector>

#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/experts_form.h"
#include "mlx_lm/ops/ops.h"
#include "mlx_lm/ops/products.h"

namespace mlx_lm::ops {
namespace {

mx::array plain(const mx::array& x) { return as_float32(unshaped(x)); }

// Inputs: logits; bias and factors, if there are any. Outputs: indices, weights.
struct Route {
  static constexpr const char* kName = "Route";
  kernels::RouteArgs args;
  int experts;
  bool bias, factors;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    for (auto& output : outputs) allocate(output);
    auto routing = args;
    auto next = inputs.begin() + 1;
    if (bias) routing.bias = (next++)->data<float>();
    if (factors) routing.factors = (next++)->data<float>();
    return [routing, experts = experts, logits = inputs[0].data<float>(), n = int(inputs[0].size() / size_t(experts)),
            chosen = outputs[0].data<int32_t>(),
            weights = outputs[1].data<float>()] { kernels::route(logits, n, experts, routing, chosen, weights); };
  }
};

// Inputs: x, indices, weights; the biases that there are; the addends, each followed by its gate, if it has one.
struct Mixture {
  static constexpr const char* kName = "Mixture";
  struct Layer {
    std::shared_ptr<const ExpertMatrices::Form> matrices;  // null: there is none
    bool bias = false;
  };
  Layer gate, up, down;
  ExpertActivation activation;
  std::vector<bool> gated = {};  // of each addend

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    kernels::MixtureArgs args{.up = up.matrices->stack(), .down = down.matrices->stack(), .activation = activation};
    if (gate.matrices) args.gate = gate.matrices->stack();
    args.k = inputs[1].shape(-1);
    auto next = inputs.begin() + 3;
    const auto take = [&next](bool there) { return there ? (next++)->data<float>() : nullptr; };
    args.gate_bias = take(gate.bias);
    args.up_bias = take(up.bias);
    args.down_bias = take(down.bias);
    std::vector<kernels::Addend> addends;
    for (bool with_gate : gated) {
      const float* y = take(true);
      addends.push_back({y, take(with_gate)});
    }
    return [args, addends = std::move(addends), kept = *this, n = int(inputs[1].size()) / args.k,
            x = inputs[0].data<float>(), chosen = inputs[1].data<int32_t>(), weights = inputs[2].data<float>(),
            out = outputs[0].data<float>()] { kernels::mix_experts(args, x, chosen, weights, n, addends, out); };
  }
};

mx::array number(double value, const mx::array& like) { return mx::array(float(value), like.dtype()); }

// Keeps the groups with the largest sums of their best scores.
mx::array keep_groups(const mx::array& scores, const Routing& r) {
  auto shape = scores.shape();
  const int experts = shape.back(), size = experts / r.groups;
  shape.back() = r.groups;
  shape.push_back(size);
  const auto grouped = mx::reshape(scores, shape);
  const auto sums = mx::sum(top_k(grouped, std::min(r.group_best, size)).first, -1);  // (..., groups)
  const auto kept = top_k(sums, r.groups_kept).second;
  const auto mask = mx::put_along_axis(mx::zeros_like(sums), kept, mx::array(1.f), -1);
  return mx::reshape(mx::where(mx::expand_dims(mask, -1) > mx::array(0.f), grouped, mx::array(0.f)), scores.shape());
}

std::pair<mx::array, mx::array> route_by_mlx(const mx::array& logits, const Routing& r,
                                             const std::optional<mx::array>& bias,
                                             const std::optional<mx::array>& factors) {
  using Scores = Routing::Scores;
  auto scores = mx::astype(logits, mx::float32);
  if (r.scores == Scores::softmax) scores = mx::softmax(scores, -1);
  if (r.scores == Scores::sigmoid) scores = mx::sigmoid(scores);
  auto choice = bias ? scores + mx::astype(*bias, mx::float32) : scores;
  if (r.groups > 1) choice = keep_groups(choice, r);
  const auto indices = top_k(choice, r.k).second;
  auto weights = mx::take_along_axis(scores, indices, -1);
  if (r.scores == Scores::chosen) weights = mx::softmax(weights, -1);
  if (r.scores == Scores::chosen_sigmoid) weights = mx::sigmoid(weights);
  if (r.normalize) weights = weights / (mx::sum(weights, -1, true) + mx::array(r.epsilon));
  if (r.scale != 1) weights = weights * mx::array(r.scale);
  if (factors) weights = weights * mx::take(mx::astype(*factors, mx::float32), indices);
  return {indices, weights};
}

mx::array product(const mx::array& x, const ExpertLayer& layer, const mx::array& indices) {
  auto y = gather_matmul(x, layer.weight, indices);
  return layer.bias ? y + mx::astype(mx::take(*layer.bias, indices, 0), y.dtype()) : y;
}

Mixture::Layer layer_of(const ExpertLayer& layer, std::vector<mx::array>& inputs) {
  if (layer.bias) inputs.push_back(as_float32(*layer.bias));
  return {layer.weight.shared(), layer.bias.has_value()};
}

}  // namespace

std::pair<mx::array, mx::array> route(const mx::array& logits, const Routing& r, const std::optional<mx::array>& bias,
                                      const std::optional<mx::array>& factors) {
  if (backend() == Backend::mlx) return route_by_mlx(logits, r, bias, factors);
  auto shape = logits.shape();
  const int experts = shape.back();
  shape.back() = r.k;
  std::vector<mx::array> inputs{plain(logits)};
  if (bias) inputs.push_back(as_float32(*bias));
  if (factors) inputs.push_back(as_float32(*factors));
  const kernels::RouteArgs args{.scores = r.scores,
                                .k = r.k,
                                .groups = r.groups,
                                .groups_kept = r.groups_kept,
                                .group_best = r.group_best,
                                .normalize = r.normalize,
                                .epsilon = r.epsilon,
                                .scale = r.scale};
  const auto found = cpu_step({shape, shape}, {mx::int32, mx::float32}, std::move(inputs),
                              Route{args, experts, bias.has_value(), factors.has_value()});
  return {found[0], found[1]};
}

mx::array activate(ExpertActivation activation, const mx::array* gate, const mx::array& up) {
  switch (activation) {
    case ExpertActivation::swiglu:
      return swiglu(*gate, up);
    case ExpertActivation::geglu_tanh:
      return geglu(*gate, up, Gelu::tanh);
    case ExpertActivation::geglu_erf:
      return geglu(*gate, up, Gelu::erf);
    case ExpertActivation::clamped_swiglu: {
      const auto limit = number(7, up);
      const auto g = mx::minimum(*gate, limit), u = mx::clip(up, mx::negative(limit), limit);
      return g * mx::sigmoid(number(1.702, up) * g) * (u + number(1, up));
    }
    case ExpertActivation::relu2:
      return mx::square(mx::maximum(up, number(0, up)));
    case ExpertActivation::gelu_tanh:
      return gelu(up, Gelu::tanh);
  }
  return up;
}

mx::array mix_experts(const mx::array& x, const ExpertLayer* gate, const ExpertLayer& up, const ExpertLayer& down,
                      ExpertActivation activation, const mx::array& indices, const mx::array& weights) {
  if (backend() == Backend::mlx) {
    const auto gates = gate ? std::optional(product(x, *gate, indices)) : std::nullopt;
    const auto hidden = activate(activation, gates ? &*gates : nullptr, product(x, up, indices));
    const auto y = product(hidden, down, indices);
    return mx::astype(mx::sum(y * mx::expand_dims(weights, -1), -2), x.dtype());
  }
  std::vector<mx::array> inputs{plain(x), mx::astype(indices, mx::int32), plain(weights)};
  Mixture step{.activation = activation};
  if (gate) step.gate = layer_of(*gate, inputs);
  step.up = layer_of(up, inputs);
  step.down = layer_of(down, inputs);
  auto shape = x.shape();
  shape.back() = down.weight.rows();
  return cpu_step(std::move(shape), std::move(inputs), std::move(step));
}

mx::array add_gated(const mx::array& mixture, const mx::array& y, const mx::array& gate) {
  const auto* step = backend() == Backend::mlx ? nullptr : pending<Mixture>(mixture);
  if (!step || y.shape() != mixture.shape()) return mixture + mx::sigmoid(gate) * y;
  auto more = *step;
  more.gated.push_back(true);
  auto inputs = mixture.inputs();
  inputs.push_back(plain(y));
  inputs.push_back(plain(gate));
  return cpu_step(mixture.shape(), std::move(inputs), std::move(more));
}

std::optional<mx::array> add_to_mixture(const mx::array& a, const mx::array& b) {
  const auto* step = pending<Mixture>(b);
  if (!step || a.shape() != b.shape()) return std::nullopt;
  auto more = *step;
  more.gated.push_back(false);
  auto inputs = b.inputs();
  inputs.push_back(plain(a));
  return cpu_step(b.shape(), std::move(inputs), std::move(more));
}

}  // namespace mlx_lm::ops
