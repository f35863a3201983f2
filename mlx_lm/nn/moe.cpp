#include "mlx_lm/nn/moe.h"

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {

void rename_experts(const Weights& w, int experts, const ExpertNames& names, const std::string& from,
                    const std::string& to) {
  const auto old = w / from, now = w / to;
  for (int e = 0; e < experts; ++e) {
    bool any = false;
    for (const auto& [name, new_name] : names) {
      any |= (old / e / name).has("weight");
      w.rename(fmt::format("{}.{}.{}", from, e, name), fmt::format("{}.{}.{}", to, new_name, e));
    }
    // The number comes from a configuration: not a loop over experts that no file has.
    if (!any) break;
  }
}

void split_fused_experts(const Weights& w, const ExpertShape& s, const std::string& from, const std::string& to) {
  const auto fused = from + ".gate_up_proj";
  if (!w.has(fused)) return;
  const mx::Shape expected{s.experts, s.hidden_size, 2 * s.intermediate_size};
  if (w.shape_of(fused) != expected) {
    fail<WeightError>("[weights] {}: expected shape ({}), found another", fused, fmt::join(expected, ", "));
  }
  const auto columns = [](int begin, int end) {
    return [=](const std::vector<mx::array>& tensors) {
      const auto& x = tensors[0];
      return mx::swapaxes(mx::slice(x, {0, 0, begin}, {x.shape(0), x.shape(1), end}), -1, -2);
    };
  };
  const int size = s.intermediate_size;
  const mx::Shape half{s.experts, size, s.hidden_size};
  w.rewrite({fused}, {{to + ".gate_proj.weight", half, columns(0, size)},
                      {to + ".up_proj.weight", half, columns(size, 2 * size)}});
  w.rewrite({from + ".down_proj"},
            {{to + ".down_proj.weight", {s.experts, s.hidden_size, size}, columns(0, s.hidden_size)}});
}

SwitchLinear::SwitchLinear(const Weights& w, int experts, int in, int out, int active, bool bias)
    : weight_(w.take_experts(experts, out, in, active)) {
  if (bias) bias_ = w.take_array("bias", {experts, out});
}

mx::array Experts::operator()(const mx::array& x, const mx::array& indices, const mx::array& weights) const {
  const auto gate = gate_ ? std::optional(gate_->layer()) : std::nullopt;
  return ops::mix_experts(x, gate ? &*gate : nullptr, up_.layer(), down_.layer(), activation_, indices, weights);
}

SwitchGLU::SwitchGLU(const Weights& w, const ExpertShape& s, ops::ExpertActivation activation, bool bias)
    : Experts(SwitchLinear(w / "gate_proj", s.experts, s.hidden_size, s.intermediate_size, s.active, bias),
              SwitchLinear(w / "up_proj", s.experts, s.hidden_size, s.intermediate_size, s.active, bias),
              SwitchLinear(w / "down_proj", s.experts, s.intermediate_size, s.hidden_size, s.active, bias),
              activation) {}

SwitchMLP::SwitchMLP(const Weights& w, const ExpertShape& s, ops::ExpertActivation activation, bool bias)
    : Experts(std::nullopt, SwitchLinear(w / "fc1", s.experts, s.hidden_size, s.intermediate_size, s.active, bias),
              SwitchLinear(w / "fc2", s.experts, s.intermediate_size, s.hidden_size, s.active, bias), activation) {}

void check(const ops::Routing& r, int experts, const std::string& where) {
  if (r.k > experts) {
    fail<ConfigError>("[config] {}: experts per token: expected at most {}, found {}", where, experts, r.k);
  }
  if (r.groups < 1 || experts % r.groups != 0) {
    fail<ConfigError>("[config] {}: groups of experts: expected a divisor of {}, found {}", where, experts, r.groups);
  }
  if (r.groups_kept < 1 || r.groups_kept > r.groups) {
    fail<ConfigError>("[config] {}: groups of experts per token: expected 1 to {}, found {}", where, r.groups,
                      r.groups_kept);
  }
}

Router::Router(const Weights& w, int hidden_size, int experts, const ops::Routing& routing, bool bias,
               std::optional<mx::array> correction, std::optional<mx::array> factors)
    : gate_(w, hidden_size, experts, bias),
      routing_(routing),
      correction_(std::move(correction)),
      factors_(std::move(factors)) {}

std::pair<mx::array, mx::array> Router::operator()(const mx::array& x) const {
  return ops::route(gate_(x), routing_, correction_, factors_);
}

MoE::MoE(Router gate, Experts experts, std::optional<MLP> shared, std::optional<Linear> shared_gate, Weighs weighs)
    : gate_(std::move(gate)),
      experts_(std::move(experts)),
      shared_(std::move(shared)),
      shared_gate_(std::move(shared_gate)),
      weighs_(weighs) {}

mx::array MoE::operator()(const mx::array& x) const {
  const auto [indices, weights] = gate_(x);
  const auto y = weighs_ == Weighs::output
                     ? experts_(x, indices, weights)
                     : experts_(x * mx::astype(weights, x.dtype()), indices, mx::ones_like(weights));
  if (!shared_) return y;
  return shared_gate_ ? ops::add_gated(y, (*shared_)(x), (*shared_gate_)(x)) : ops::residual_add((*shared_)(x), y);
}

}  // namespace mlx_lm::nn
