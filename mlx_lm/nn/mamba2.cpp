#include "mlx_lm/nn/mamba2.h"

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {

void Mamba2Mixer::Options::read_time_step_limit(const ConfigReader& c) {
  const auto limits = c.find<std::vector<float>>("time_step_limit");
  if (!limits) return;
  if (limits->size() != 2 || !((*limits)[0] <= (*limits)[1])) {
    fail<ConfigError>("[config] {}: time_step_limit: expected two numbers in order, found {}", c.where(),
                      c.json()["time_step_limit"].dump().substr(0, 60));
  }
  time_step_low = (*limits)[0], time_step_high = (*limits)[1];
}

void Mamba2Mixer::Options::check(const ConfigReader& c) const {
  if (heads % groups != 0 || heads % norm_groups != 0) {
    fail<ConfigError>("[config] {}: groups: expected a divisor of the {} heads of Mamba, found {}", c.where(), heads,
                      groups);
  }
  const int64_t all = 2 * int64_t(heads) * head_dim + 2 * int64_t(groups) * state_size + heads;
  if (all > ConfigReader::kMaxSize || int64_t(heads) * head_dim * state_size > ConfigReader::kMaxSize) {
    fail<ConfigError>("[config] {}: Mamba: expected at most {} numbers, found {} heads of {} with states of {}",
                      c.where(), ConfigReader::kMaxSize, heads, head_dim, state_size);
  }
}

Mamba2Mixer::Mamba2Mixer(const Weights& w, const Options& o)
    : o_(o),
      in_proj_(w / "in_proj", o.hidden_size, o.inner() + o.channels() + o.heads, o.proj_bias),
      conv1d_(w / "conv1d", o.channels(), o.taps, o.conv_bias, /* silu */ true),
      decay_{take_decay_rates(w, {o.heads}), w.take_vector("dt_bias", o.heads), o.time_step_low, o.time_step_high},
      attention_{.key_heads = o.groups,
                 .value_heads = o.heads,
                 .key_dim = o.state_size,
                 .value_dim = o.head_dim,
                 .skip = w.take_vector("D", o.heads)},
      norm_((w / "norm").take_vector("weight", o.inner())),
      out_proj_(w / "out_proj", o.inner(), o.hidden_size, o.proj_bias) {}

mx::array Mamba2Mixer::operator()(const mx::array& x, cache::StateCache& cache) const {
  const int length = x.shape(1), inner = o_.inner(), channels = o_.channels(), keys = o_.groups * o_.state_size;
  const auto all = in_proj_(x);                                 // (B, L, gate | convolved | time steps)
  const auto mixed = conv1d_({{all, inner, channels}}, cache);  // (B, L, values | keys | queries)
  const auto [decay, write] = ops::decays({all, inner + channels, o_.heads}, std::nullopt, decay_);
  const auto y = ops::linear_attention({mixed, inner + keys, keys}, {mixed, inner, keys}, {mixed, 0, inner}, decay,
                                       write, attention_, cache.runs(1, length));
  cache.advance(length);
  return out_proj_(
      ops::gated_rms_norm(y, {all, 0, inner}, norm_, o_.eps, inner / o_.norm_groups, /* gate_first */ true));
}

}  // namespace mlx_lm::nn
