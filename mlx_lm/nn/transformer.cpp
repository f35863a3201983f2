#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::nn {

MLP::MLP(const Weights& w, int hidden_size, int intermediate_size, bool bias)
    : gate_proj_(w / "gate_proj", hidden_size, intermediate_size, bias),
      up_proj_(w / "up_proj", hidden_size, intermediate_size, bias),
      down_proj_(w / "down_proj", intermediate_size, hidden_size, bias) {}

mx::array MLP::operator()(const mx::array& x) const { return down_proj_(swiglu(gate_proj_(x), up_proj_(x))); }

LMHead::LMHead(const Weights& w, bool tied, int hidden_size, int vocab_size) {
  if (tied) {
    (w / "lm_head").ignore("");
    w.tie_output();
  } else {
    lm_head_.emplace(w / "lm_head", hidden_size, vocab_size, /* bias */ false, MatrixUse::output);
  }
}

mx::array LMHead::operator()(const mx::array& h, const Embedding& embed_tokens) const {
  return lm_head_ ? (*lm_head_)(h) : embed_tokens.as_linear(h);
}

}  // namespace mlx_lm::nn
