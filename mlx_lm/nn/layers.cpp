#include "mlx_lm/nn/layers.h"

#include "mlx_lm/nn/hidden_states.h"

namespace mlx_lm::nn {

Linear::Linear(const Weights& w, int in, int out, bool bias, MatrixUse use) : weight_(w.take_matrix(out, in, use)) {
  if (bias) bias_ = w.take_vector("bias", out);
  low_rank_ = LowRank::take(w, weight_, bias_, use);
}

mx::array Linear::operator()(const mx::array& x) const {
  return low_rank_ ? adapted(x, {this})[0] : ops::matmul(x, weight_, bias_);
}

std::vector<mx::array> Linear::adapted(const mx::array& x, const std::vector<const Linear*>& layers) {
  static const std::optional<mx::array> none;
  // Two steps, not one: products with quantized weights round x together only among their like.
  std::vector<ops::Projection> wide, narrow;
  for (const auto* layer : layers) {
    const bool bias_comes_later = layer->low_rank_ && layer->low_rank_->stretches();
    wide.push_back({layer->weight_, bias_comes_later ? none : layer->bias_});
    if (layer->low_rank_) narrow.push_back({layer->low_rank_->down(), none});
  }
  auto y = ops::matmul(x, wide);
  const auto low = ops::matmul(x, narrow);
  auto next = low.begin();
  for (size_t i = 0; i < layers.size(); ++i) {
    if (const auto& low_rank = layers[i]->low_rank_) y[i] = low_rank->add(y[i], *next++);
  }
  return y;
}

Embedding::Embedding(const Weights& w, int vocab_size, int width)
    : weight_(w.take_matrix(vocab_size, width, MatrixUse::table)), low_rank_(LowRankTable::take(w, weight_)) {}

mx::array Embedding::operator()(const mx::array& tokens) const {
  auto rows = ops::take_rows(weight_, tokens);
  return low_rank_ ? low_rank_->add(rows, tokens) : rows;
}

mx::array Embedding::as_linear(const mx::array& x) const {
  HiddenStates::pass(x);
  auto logits = ops::matmul(x, weight_);
  return low_rank_ ? low_rank_->as_linear(logits, x) : logits;
}

RMSNorm::RMSNorm(const Weights& w, int size, float eps, float offset)
    : weight_(w.take_vector("weight", size)), eps_(eps) {
  if (offset == 0) return;
  weight_ = weight_ + mx::array(offset, weight_.dtype());
  weight_.eval();
}

LayerNorm::LayerNorm(const Weights& w, int size, float eps, bool bias, bool affine) : eps_(eps) {
  if (affine) weight_ = w.take_vector("weight", size);
  if (affine && bias) bias_ = w.take_vector("bias", size);
}

}  // namespace mlx_lm::nn
