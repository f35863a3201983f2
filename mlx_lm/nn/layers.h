// The layers that models are composed of. Each takes its weights from a scope of the store when it is made.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/nn/low_rank.h"
#include "mlx_lm/nn/weights.h"
#include "mlx_lm/ops/matrix.h"
#include "mlx_lm/ops/ops.h"
#include "mlx_lm/ops/products.h"

namespace mlx_lm::nn {

// y = x W^T + b. Takes `weight` (and `scales`, `biases` when quantized) and, if asked, `bias`; and what an adapter
// adds.
class Linear {
 public:
  Linear(const Weights& w, int in, int out, bool bias = false, MatrixUse use = MatrixUse::layer);
  // (..., in) -> (..., out)
  mx::array operator()(const mx::array& x) const;

  // Several layers of the same x, which the CPU computes in one step: auto [q, k, v] = project(x, q_proj, k_proj,
  // v_proj).
  template <class... Linears>
  friend std::array<mx::array, sizeof...(Linears)> project(const mx::array& x, const Linears&... layers) {
    auto y = (layers.low_rank_ || ...) ? adapted(x, {&layers...}) : ops::matmul(x, {{layers.weight_, layers.bias_}...});
    return [&]<size_t... i>(std::index_sequence<i...>) {
      return std::array<mx::array, sizeof...(Linears)>{std::move(y[i])...};
    }
    (std::make_index_sequence<sizeof...(Linears)>());
  }

 private:
  // project() where at least one of the layers has an adapter.
  static std::vector<mx::array> adapted(const mx::array& x, const std::vector<const Linear*>& layers);

  ops::Matrix weight_;
  std::optional<mx::array> bias_;
  std::shared_ptr<const LowRank> low_rank_;  // null: no adapter
};

// A table of token vectors, which can also serve as the output layer. Takes `weight`, quantized or not, and what
// an adapter adds.
class Embedding {
 public:
  Embedding(const Weights& w, int vocab_size, int width);
  // tokens (B, L) -> (B, L, E): float32 on the CPU, the model's type on a GPU. A token past the end is our own bug.
  mx::array operator()(const mx::array& tokens) const;
  // (B, L, E) -> logits (B, L, V)
  mx::array as_linear(const mx::array& x) const;

 private:
  ops::Matrix weight_;
  std::shared_ptr<const LowRankTable> low_rank_;  // null: no adapter
};

// Root-mean-square norm over the last axis. Takes `weight`.
class RMSNorm {
 public:
  // offset: added to the weight (Gemma's is stored less 1).
  RMSNorm(const Weights& w, int size, float eps, float offset = 0.f);
  mx::array operator()(const mx::array& x) const { return ops::rms_norm(x, weight_, eps_); }

 private:
  mx::array weight_;
  float eps_;
};

// Layer norm over the last axis. Takes `weight` and `bias`, or, as asked, one or none of them.
class LayerNorm {
 public:
  LayerNorm(const Weights& w, int size, float eps, bool bias = true, bool affine = true);
  mx::array operator()(const mx::array& x) const { return ops::layer_norm(x, weight_, bias_, eps_); }

 private:
  std::optional<mx::array> weight_, bias_;
  float eps_;
};

// silu(gate) * up
inline mx::array swiglu(const mx::array& gate, const mx::array& up) { return ops::swiglu(gate, up); }

}  // namespace mlx_lm::nn
