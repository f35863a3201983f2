// A small input of each token for each layer, as Gemma 3n and 4 have it.
#pragma once

#include <vector>

#include "mlx_lm/nn/layers.h"

namespace mlx_lm::nn {

// Takes embed_tokens_per_layer, per_layer_model_projection, per_layer_projection_norm.
// Shapes: E hidden, N layers, P of an input.
class LayerInputs {
 public:
  struct Options {
    int layers, hidden_size, size;
    int vocab_size;  // of the table; tokens past its end count as 0
    float eps;
  };
  LayerInputs(const Weights& w, const Options& options);

  // One for each layer. Shapes: tokens (B, L), h (B, L, E), their embeddings -> N of (B, L, P).
  std::vector<mx::array> operator()(const mx::array& tokens, const mx::array& h) const;

 private:
  Options options_;
  Embedding embed_tokens_per_layer_;
  Linear per_layer_model_projection_;
  RMSNorm per_layer_projection_norm_;
};

// What a layer makes of its input: norm(projection(gelu(gate(h)) * input)). Takes per_layer_input_gate,
// per_layer_projection, post_per_layer_input_norm.
class LayerInputGate {
 public:
  LayerInputGate(const Weights& w, int hidden_size, int size, float eps);
  // Shapes: h (B, L, E), input (B, L, P) -> (B, L, E).
  mx::array operator()(const mx::array& h, const mx::array& input) const;

 private:
  Linear per_layer_input_gate_, per_layer_projection_;
  RMSNorm post_per_layer_input_norm_;
};

}  // namespace mlx_lm::nn
