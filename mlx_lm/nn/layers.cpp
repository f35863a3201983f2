#include "mlx_lm/nn/layers.h"

namespace mlx_lm::nn {

Linear::Linear(const Weights& w, int in, int out, bool bias) : weight_(w.take_matrix(out, in)) {
  if (bias) bias_ = w.take_vector("bias", out);
}

mx::array Linear::operator()(const mx::array& x) const { return ops::matmul(x, weight_, bias_); }

Embedding::Embedding(const Weights& w, int vocab_size, int width)
    : weight_(w.take_matrix(vocab_size, width, MatrixUse::table)) {}

mx::array Embedding::operator()(const mx::array& tokens) const { return ops::take_rows(weight_, tokens); }

mx::array Embedding::as_linear(const mx::array& x) const { return ops::matmul(x, weight_); }

RMSNorm::RMSNorm(const Weights& w, int size, float eps) : weight_(w.take_vector("weight", size)), eps_(eps) {}

}  // namespace mlx_lm::nn
