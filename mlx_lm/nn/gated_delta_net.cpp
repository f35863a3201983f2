#include "mlx_lm/nn/gated_delta_net.h"

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {
namespace {

std::vector<Linear> projections(const Weights& w, const GatedDeltaNet::Options& o) {
  const int qkv = 2 * o.keys() + o.values();
  if (o.grouped) {
    return {Linear(w / "in_proj_qkvz", o.hidden_size, qkv + o.values()),
            Linear(w / "in_proj_ba", o.hidden_size, 2 * o.value_heads)};
  }
  return {Linear(w / "in_proj_qkv", o.hidden_size, qkv), Linear(w / "in_proj_z", o.hidden_size, o.values()),
          Linear(w / "in_proj_b", o.hidden_size, o.value_heads), Linear(w / "in_proj_a", o.hidden_size, o.value_heads)};
}

}  // namespace

GatedDeltaNet::Options::Options(const ConfigReader& c, int hidden_size, float eps, bool grouped)
    : hidden_size(hidden_size),
      eps(eps),
      grouped(grouped),
      value_heads(c.get_size("linear_num_value_heads", 1, 65536)),
      key_heads(c.get_size("linear_num_key_heads", 1, value_heads)),
      key_dim(c.get_size("linear_key_head_dim", 1, 4096)),
      value_dim(c.get_size("linear_value_head_dim", 1, 4096)),
      taps(c.get_size("linear_conv_kernel_dim", 2, 4096)) {
  if (value_heads % key_heads != 0) {
    fail<ConfigError>("[config] {}: linear_num_key_heads: expected a divisor of {} value heads, found {}", c.where(),
                      value_heads, key_heads);
  }
  if (int64_t(value_heads) * (key_dim + value_dim) > ConfigReader::kMaxSize / 4) {
    fail<ConfigError>("[config] {}: linear_num_value_heads: expected fewer heads of {} and {}, found {}", c.where(),
                      key_dim, value_dim, value_heads);
  }
}

GatedDeltaNet::GatedDeltaNet(const Weights& w, const Options& o)
    : o_(o),
      in_proj_(projections(w, o)),
      conv1d_(w / "conv1d", 2 * o.keys() + o.values(), o.taps, /* bias */ false, /* silu */ true),
      decay_{take_decay_rates(w, {o.value_heads}), w.take_vector("dt_bias", o.value_heads)},
      rule_{.key_heads = o.key_heads,
            .value_heads = o.value_heads,
            .key_dim = o.key_dim,
            .value_dim = o.value_dim,
            .correct = true,
            .normalize = 1e-6f},
      norm_((w / "norm").take_vector("weight", o.value_dim)),
      out_proj_(w / "out_proj", o.values(), o.hidden_size) {}

GatedDeltaNet::Projected GatedDeltaNet::project_all(const mx::array& x) const {
  if (!o_.grouped) {
    const auto [qkv, z, b, a] = project(x, in_proj_[0], in_proj_[1], in_proj_[2], in_proj_[3]);
    return {{qkv}, z, b, a};
  }
  const auto [qkvz, ba] = project(x, in_proj_[0], in_proj_[1]);
  // A group: the key head's q and k, and v and z of its value heads; b and a of the same.
  const int shared = o_.value_heads / o_.key_heads, keys = o_.key_dim, values = shared * o_.value_dim;
  const auto part = [&, &qkvz = qkvz](int begin, int size) {
    return ops::Columns(qkvz, begin, o_.key_heads * size, size, 2 * (keys + values));
  };
  const auto gate = [&, &ba = ba](int begin) { return ops::Columns(ba, begin, o_.value_heads, shared, 2 * shared); };
  return {{part(0, keys), part(keys, keys), part(2 * keys, values)},
          part(2 * keys + values, values),
          gate(0),
          gate(shared)};
}

mx::array GatedDeltaNet::operator()(const mx::array& x, cache::StateCache& cache) const {
  const int length = x.shape(1), keys = o_.keys();
  const auto in = project_all(x);
  const auto mixed = conv1d_(in.qkv, cache);  // (B, L, q | k | v)
  const auto [decay, write] = ops::decays(in.a, in.b, decay_);
  const auto y = ops::linear_attention({mixed, 0, keys}, {mixed, keys, keys}, {mixed, 2 * keys, o_.values()}, decay,
                                       write, rule_, cache.runs(1, length));
  cache.advance(length);
  return out_proj_(ops::gated_rms_norm(y, in.z, norm_, o_.eps, o_.value_dim, /* gate_first */ false));
}

}  // namespace mlx_lm::nn
