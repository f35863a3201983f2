// A decoder of recurrent mixers alone: Mamba's and Mamba 2's.
#pragma once

#include <vector>

#include "mlx_lm/cache/state.h"
#include "mlx_lm/nn/layers.h"

namespace mlx_lm::nn {

// Token vectors, layers of a mixer behind a norm each, a norm. Takes embeddings, layers.{i}.{mixer, norm}, norm_f.
// Mixer: called with (B, L, E) and a cache.
template <class Mixer>
class StateSpaceModel {
 public:
  struct Options {
    int vocab_size, hidden_size, layers;
    float eps = 1e-5f;  // of the layers' norms
    float final_eps;
  };
  // make(scope) gives a layer's mixer.
  template <class Make>
  StateSpaceModel(const Weights& w, const Options& o, Make make)
      : embeddings_(w / "embeddings", o.vocab_size, o.hidden_size), norm_f_(w / "norm_f", o.hidden_size, o.final_eps) {
    for (int i = 0; i < o.layers; ++i) {
      const auto layer = w / "layers" / i;
      layers_.push_back({make(layer / "mixer"), RMSNorm(layer / "norm", o.hidden_size, o.eps)});
    }
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = embeddings_(tokens);
    for (size_t i = 0; i < layers_.size(); ++i) {
      h = ops::residual_add(h, layers_[i].mixer(layers_[i].norm(h), cache::states(*caches[i])));
    }
    return norm_f_(h);
  }

  const Embedding& embeddings() const { return embeddings_; }

  // A state has one size, whatever the text's.
  cache::KVCaches make_cache() const {
    cache::KVCaches caches;
    for (size_t i = 0; i < layers_.size(); ++i) caches.push_back(std::make_unique<cache::StateCache>(2));
    return caches;
  }

 private:
  struct Layer {
    Mixer mixer;
    RMSNorm norm;
  };
  Embedding embeddings_;
  std::vector<Layer> layers_;
  RMSNorm norm_f_;
};

}  // namespace mlx_lm::nn
