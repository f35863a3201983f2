// Mixtures of experts: layers of which every token goes to a few, and the router that says to which.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/layers.h"
#include "mlx_lm/nn/transformer.h"
#include "mlx_lm/ops/mixture.h"

namespace mlx_lm::nn {

struct ExpertShape {
  int hidden_size;
  int intermediate_size;
  int experts;
  int active;  // experts that a token goes to
};

// What published checkpoints call `from.{e}.{name}` becomes `to.{new name}.{e}`, which the layers below take as it is:
// on the CPU without another copy. Does nothing for checkpoints that are stacked already.
using ExpertNames = std::vector<std::pair<std::string, std::string>>;  // name, new name
void rename_experts(const Weights& w, int experts,
                    const ExpertNames& names = {{"gate_proj", "gate_proj"},
                                                {"up_proj", "up_proj"},
                                                {"down_proj", "down_proj"}},
                    const std::string& from = "experts", const std::string& to = "switch_mlp");

// The same for checkpoints that have all experts in two tensors, which multiply from the right: `from.gate_up_proj`
// (experts, E, 2 F), gates first, and `from.down_proj` (experts, F, E).
void split_fused_experts(const Weights& w, const ExpertShape& shape, const std::string& from = "experts",
                         const std::string& to = "switch_mlp");

// y = W_e x + b_e. Takes `weight` (experts, out, in), or one for each expert, `0.weight`, `1.weight` ..., and, if
// asked, `bias` (experts, out).
class SwitchLinear {
 public:
  SwitchLinear(const Weights& w, int experts, int in, int out, int active, bool bias = false);
  ops::ExpertLayer layer() const { return {weight_, bias_}; }

 private:
  ops::ExpertMatrices weight_;
  std::optional<mx::array> bias_;
};

// The weighted sum of what a token's experts make of it. Source: mlx-lm's models/switch_layers.py.
class Experts {
 public:
  // Shapes: x (B, L, E), indices and weights (B, L, k) -> (B, L, E).
  mx::array operator()(const mx::array& x, const mx::array& indices, const mx::array& weights) const;

 protected:
  Experts(std::optional<SwitchLinear> gate, SwitchLinear up, SwitchLinear down, ops::ExpertActivation activation)
      : gate_(std::move(gate)), up_(std::move(up)), down_(std::move(down)), activation_(activation) {}

 private:
  std::optional<SwitchLinear> gate_;
  SwitchLinear up_, down_;
  ops::ExpertActivation activation_;
};

// down(activation(gate(x), up(x))). Takes gate_proj, up_proj, down_proj.
struct SwitchGLU : Experts {
  SwitchGLU(const Weights& w, const ExpertShape& shape,
            ops::ExpertActivation activation = ops::ExpertActivation::swiglu, bool bias = false);
};

// fc2(activation(fc1(x))). Takes fc1, fc2.
struct SwitchMLP : Experts {
  SwitchMLP(const Weights& w, const ExpertShape& shape, ops::ExpertActivation activation, bool bias = false);
};

// Errors: ConfigError for a routing that asks for more experts or groups than there are.
void check(const ops::Routing& routing, int experts, const std::string& where);

// A linear layer and the choice by its logits. Takes the layer.
class Router {
 public:
  // bias: whether the layer has one. correction (experts): added to the scores for the choice alone. factors
  // (experts): multiply the weights.
  Router(const Weights& w, int hidden_size, int experts, const ops::Routing& routing, bool bias = false,
         std::optional<mx::array> correction = std::nullopt, std::optional<mx::array> factors = std::nullopt);
  // (B, L, E) -> indices and weights (B, L, k)
  std::pair<mx::array, mx::array> operator()(const mx::array& x) const;

 private:
  Linear gate_;
  ops::Routing routing_;
  std::optional<mx::array> correction_, factors_;
};

// A router with its experts, and perhaps an expert for all tokens, whose share a sigmoid may decide.
class MoE {
 public:
  // What a weight multiplies: what its expert makes of a token, or the token (which then goes to one expert alone).
  enum class Weighs { output, input };
  MoE(Router gate, Experts experts, std::optional<MLP> shared = std::nullopt,
      std::optional<Linear> shared_gate = std::nullopt, Weighs weighs = Weighs::output);
  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x) const;

 private:
  Router gate_;
  Experts experts_;
  std::optional<MLP> shared_;
  std::optional<Linear> shared_gate_;  // (B, L, E) -> (B, L, 1)
  Weighs weighs_;
};

// What follows the attention of a layer in models that mix dense layers and mixtures. Immutable; copies share it.
class FeedForward {
 public:
  FeedForward(MLP mlp) : mlp_(std::make_shared<const MLP>(std::move(mlp))) {}
  FeedForward(MoE moe) : moe_(std::make_shared<const MoE>(std::move(moe))) {}
  mx::array operator()(const mx::array& x) const { return moe_ ? (*moe_)(x) : (*mlp_)(x); }

 private:
  std::shared_ptr<const MLP> mlp_;
  std::shared_ptr<const MoE> moe_;
};

// The block of decoders with mixtures. Config: derives from DecoderConfig, has attention(layer), which gives
// GroupedAttention's Options, and feed_forward(the block's scope, layer), which gives a FeedForward.
struct MixtureBlock : TransformerBlock<GroupedAttention, FeedForward> {
  template <class Config>
  MixtureBlock(const Config& c, const Weights& w, int layer)
      : TransformerBlock(w, c.hidden_size, c.rms_norm_eps, GroupedAttention(w / "self_attn", c.attention(layer)),
                         c.feed_forward(w, layer)) {}
};

}  // namespace mlx_lm::nn
