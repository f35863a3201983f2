#include "mlx_lm/nn/transformer.h"

#include "mlx_lm/base/error.h"
#include "mlx_lm/nn/hidden_states.h"

namespace mlx_lm::nn {

namespace {

// Here, since gate_proj and up_proj are taken next.
const Weights& split(const Weights& w, int intermediate_size) {
  w.split("gate_up_proj", {{"gate_proj", intermediate_size}, {"up_proj", intermediate_size}});
  return w;
}

}  // namespace

MLP::MLP(const Weights& w, int hidden_size, int intermediate_size, bool bias)
    : gate_proj_(split(w, intermediate_size) / "gate_proj", hidden_size, intermediate_size, bias),
      up_proj_(w / "up_proj", hidden_size, intermediate_size, bias),
      down_proj_(w / "down_proj", intermediate_size, hidden_size, bias) {}

mx::array MLP::operator()(const mx::array& x) const { return down_proj_(swiglu(gate_proj_(x), up_proj_(x))); }

GeluMLP::GeluMLP(const Weights& up, const Weights& down, int hidden_size, int intermediate_size, ops::Gelu kind,
                 bool bias)
    : up_(up, hidden_size, intermediate_size, bias), down_(down, intermediate_size, hidden_size, bias), kind_(kind) {}

mx::array positions_of(const ops::Runs& runs, int limit) {
  std::vector<int> positions;
  for (const auto& run : runs) {
    if (run.position + run.tokens > limit) {
      fail<RequestError>("[models] text: expected at most the {} tokens that the model has positions for, found {}",
                         limit, run.position + run.tokens);
    }
    for (int i = 0; i < run.tokens; ++i) positions.push_back(run.position + i);
  }
  return mx::array(positions.begin(), {1, int(positions.size())}, mx::int32);
}

LMHead::LMHead(const Weights& w, bool tied, int hidden_size, int vocab_size, bool bias, std::string_view name) {
  if (tied) {
    (w / name).ignore("");
    w.tie_output();
  } else {
    lm_head_.emplace(w / name, hidden_size, vocab_size, bias, MatrixUse::output);
  }
}

mx::array LMHead::operator()(const mx::array& h, const Embedding& embed_tokens) const {
  if (!lm_head_) return embed_tokens.as_linear(h);
  HiddenStates::pass(h);
  return (*lm_head_)(h);
}

}  // namespace mlx_lm::nn
