#include "mlx_lm/nn/layer_inputs.h"

#include <cmath>

#include "mlx_lm/ops/elementwise.h"

namespace mlx_lm::nn {

LayerInputs::LayerInputs(const Weights& w, const Options& o)
    : options_(o),
      embed_tokens_per_layer_(w / "embed_tokens_per_layer", o.vocab_size, o.layers * o.size),
      per_layer_model_projection_(w / "per_layer_model_projection", o.hidden_size, o.layers * o.size),
      per_layer_projection_norm_(w / "per_layer_projection_norm", o.size, o.eps) {}

std::vector<mx::array> LayerInputs::operator()(const mx::array& tokens, const mx::array& h) const {
  const int batch = tokens.shape(0), length = tokens.shape(1);
  const mx::Shape by_layer{batch, length, options_.layers, options_.size};
  const mx::array end(options_.vocab_size), none(0);
  const auto rows = embed_tokens_per_layer_(mx::where(tokens < end, tokens, none));
  const auto own = mx::reshape(ops::scale(rows, std::sqrt(float(options_.size))), by_layer);
  const auto projected =
      ops::scale(per_layer_model_projection_(h), 1 / std::sqrt(float(options_.hidden_size)));  // (B, L, N * P)
  const auto sum = ops::residual_add(own, per_layer_projection_norm_(mx::reshape(projected, by_layer)));
  const auto all = mx::reshape(ops::scale(sum, std::sqrt(0.5f)), {batch, length, options_.layers * options_.size});
  return mx::split(all, options_.layers, -1);
}

LayerInputGate::LayerInputGate(const Weights& w, int hidden_size, int size, float eps)
    : per_layer_input_gate_(w / "per_layer_input_gate", hidden_size, size),
      per_layer_projection_(w / "per_layer_projection", size, hidden_size),
      post_per_layer_input_norm_(w / "post_per_layer_input_norm", hidden_size, eps) {}

mx::array LayerInputGate::operator()(const mx::array& h, const mx::array& input) const {
  const auto gated = ops::geglu(per_layer_input_gate_(h), input, ops::Gelu::tanh);
  return post_per_layer_input_norm_(per_layer_projection_(gated));
}

}  // namespace mlx_lm::nn
