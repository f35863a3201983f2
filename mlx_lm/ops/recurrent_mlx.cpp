#include "mlx_lm/ops/recurrent_mlx.h"

#include <cmath>

namespace mlx_lm::ops {
namespace {

mx::array in_float32(const mx::array& x) { return mx::astype(x, mx::float32); }

// Entries [begin, end) of an axis.
mx::array part(const mx::array& x, int axis, int begin, int end) {
  mx::Shape start(x.ndim(), 0), stop = x.shape();
  start[axis] = begin, stop[axis] = end;
  return mx::slice(x, start, stop);
}

// Entry i of an axis, without it.
mx::array at(const mx::array& x, int axis, int i) { return mx::squeeze(part(x, axis, i, i + 1), axis); }

mx::array softplus(const mx::array& x) { return mx::logaddexp(x, mx::array(0.f)); }
mx::array silu(const mx::array& x) { return x * mx::sigmoid(x); }

// f(begin, end, state) for each run of tokens, its results one after another.
template <class F>
mx::array by_runs(const StateRuns& runs, F f) {
  std::vector<mx::array> parts;
  int begin = 0;
  for (const auto& run : runs) {
    parts.push_back(f(begin, begin + run.tokens, *run.state));
    begin += run.tokens;
  }
  return parts.size() == 1 ? parts[0] : mx::concatenate(std::move(parts), 1);
}

// (B, L, heads * D) -> (B, L, of, D), each head as often as needed.
mx::array heads_of(const Columns& columns, int heads, int dim, int of) {
  const auto x = in_float32(take_columns(columns));
  auto split = mx::reshape(x, {x.shape(0), x.shape(1), heads, dim});
  return heads == of ? split : mx::repeat(split, of / heads, 2);
}

struct Tokens {
  mx::array q, k, v, decay, write;  // (B, L, H, D), (B, L, H, D'), (B, L, H) or (B, L, H, D), (B, L, H)

  Tokens range(int begin, int end) const {
    const auto cut = [&](const mx::array& x) { return part(x, 1, begin, end); };
    return {cut(q), cut(k), cut(v), cut(decay), cut(write)};
  }
};

// One token after another. -> (B, L, H, D').
mx::array one_by_one(const Tokens& tokens, bool correct, mx::array& state) {
  std::vector<mx::array> results;
  for (int t = 0; t < tokens.q.shape(1); ++t) {
    const auto q = mx::expand_dims(at(tokens.q, 1, t), -1), k = mx::expand_dims(at(tokens.k, 1, t), -2);
    auto decay = at(tokens.decay, 1, t), v = mx::expand_dims(at(tokens.v, 1, t), -1);
    decay = decay.ndim() == 3 ? mx::expand_dims(decay, -2) : mx::expand_dims(decay, {-1, -2});
    state = state * decay;
    if (correct) v = v - mx::matmul(state, mx::swapaxes(k, -1, -2));
    state = state + v * mx::expand_dims(at(tokens.write, 1, t), {-1, -2}) * k;
    results.push_back(mx::squeeze(mx::matmul(state, q), -1));
  }
  return mx::stack(results, 1);
}

// Many tokens at once, as products of matrices. Source: mlx-lm's ssm_attn, after Mamba-2's paper (arXiv:2405.21060).
mx::array at_once(const Tokens& tokens, mx::array& state) {
  const auto swapped = [](const mx::array& x) { return mx::swapaxes(x, 1, 2); };  // (B, H, L, ...)
  const auto q = swapped(tokens.q), k = swapped(tokens.k);
  const auto v = swapped(tokens.v * mx::expand_dims(tokens.write, -1));
  const int length = q.shape(2);
  // Of a decay of 0 too there is a logarithm.
  const auto logs = mx::log(mx::maximum(swapped(tokens.decay), mx::array(1e-37f)));
  const auto sums = mx::cumsum(logs, -1);  // (B, H, L)
  const auto last = part(sums, 2, length - 1, length);
  const auto between = mx::expand_dims(sums, -1) - mx::expand_dims(sums, -2);
  const auto seen = mx::tril(mx::ones({length, length}, mx::bool_));
  const auto decay = mx::exp(mx::where(seen, between, mx::array(-INFINITY)));
  auto result = mx::matmul(mx::matmul(q, mx::swapaxes(k, -1, -2)) * decay, v);
  result = result + mx::matmul(q, mx::swapaxes(state, -1, -2)) * mx::expand_dims(mx::exp(sums), -1);
  const auto left = mx::swapaxes(v * mx::expand_dims(mx::exp(last - sums), -1), -1, -2);
  state = state * mx::expand_dims(mx::exp(last), -1) + mx::matmul(left, k);
  return swapped(result);
}

}  // namespace

mx::array mlx_convolution(const std::vector<Columns>& x, const Convolution& how, const StateRuns& runs,
                          const std::optional<ConvolutionGates>& gates) {
  std::vector<mx::array> channels;
  for (const auto& columns : x) channels.push_back(take_columns(columns));
  auto all = channels.size() == 1 ? channels[0] : mx::concatenate(std::move(channels), -1);
  if (gates) all = all * take_columns(gates->in);
  const int kept = how.weight.shape(0) - 1, count = all.shape(2);
  const auto weight = mx::expand_dims(mx::transpose(mx::astype(how.weight, all.dtype())), -1);  // (C, taps, 1)
  auto y = by_runs(runs, [&](int begin, int end, std::optional<mx::array>& state) {
    const auto before = state ? mx::astype(*state, all.dtype()) : mx::zeros({all.shape(0), kept, count}, all.dtype());
    const auto in = mx::concatenate({before, part(all, 1, begin, end)}, 1);
    state = mx::contiguous(part(in, 1, end - begin, end - begin + kept));
    return mx::conv1d(in, weight, 1, 0, 1, count);
  });
  if (how.bias) y = y + mx::astype(*how.bias, y.dtype());
  if (how.silu) y = silu(y);
  return gates ? y * take_columns(gates->out) : y;
}

std::pair<mx::array, mx::array> mlx_decays(const Columns& a, const std::optional<Columns>& b, const Decay& how) {
  auto step = softplus(in_float32(take_columns(a)) + in_float32(how.bias));
  if (how.low > 0) step = mx::maximum(step, mx::array(how.low));
  if (std::isfinite(how.high)) step = mx::minimum(step, mx::array(how.high));
  const int heads = int(how.rate.size()), each = a.count / heads;
  auto rate = mx::negative(in_float32(how.rate));
  auto rated = step;
  if (each > 1) {
    rated = mx::reshape(step, {step.shape(0), step.shape(1), heads, each});
    rate = mx::expand_dims(rate, -1);
  }
  return {mx::exp(rated * rate), b ? mx::sigmoid(in_float32(take_columns(*b))) : step};
}

mx::array mlx_linear_attention(const Columns& q, const Columns& k, const Columns& v, const mx::array& decay,
                               const mx::array& write, const LinearAttention& how, const StateRuns& runs) {
  constexpr int kChunk = 256;
  Tokens all{heads_of(q, how.key_heads, how.key_dim, how.value_heads),
             heads_of(k, how.key_heads, how.key_dim, how.value_heads),
             heads_of(v, how.value_heads, how.value_dim, how.value_heads), decay, write};
  if (how.normalize > 0) {
    const auto shrink = [&](const mx::array& x) {
      return x * mx::rsqrt(mx::sum(mx::square(x), -1, true) + mx::array(how.normalize));
    };
    all.q = shrink(all.q) * mx::array(1 / std::sqrt(float(how.key_dim)));
    all.k = shrink(all.k);
  }
  const bool chunks = !how.correct && decay.ndim() == 3;
  auto y = by_runs(runs, [&](int begin, int end, std::optional<mx::array>& state) {
    auto s = state ? in_float32(*state)
                   : mx::zeros({q.x.shape(0), how.value_heads, how.value_dim, how.key_dim}, mx::float32);
    std::vector<mx::array> results;
    for (int first = begin; first < end; first += kChunk) {
      const auto tokens = all.range(first, std::min(end, first + kChunk));
      results.push_back(chunks && tokens.q.shape(1) > 1 ? at_once(tokens, s) : one_by_one(tokens, how.correct, s));
    }
    state = s;
    return mx::concatenate(std::move(results), 1);
  });
  if (how.skip) y = y + all.v * mx::expand_dims(in_float32(*how.skip), -1);
  return mx::astype(mx::reshape(y, {y.shape(0), y.shape(1), -1}), v.x.dtype());
}

mx::array mlx_selective_scan(const mx::array& x, const mx::array& dt, const Columns& b, const Columns& c,
                             const mx::array& rate, const mx::array& skip, const StateRuns& runs) {
  const auto exact = in_float32(x), step = softplus(in_float32(dt));
  const auto in = in_float32(take_columns(b)), out = in_float32(take_columns(c));
  const auto decay_rate = mx::negative(in_float32(rate));
  auto y = by_runs(runs, [&](int begin, int end, std::optional<mx::array>& state) {
    auto s = state ? in_float32(*state) : mx::zeros({x.shape(0), rate.shape(0), rate.shape(1)}, mx::float32);
    std::vector<mx::array> results;
    for (int t = begin; t < end; ++t) {
      const auto now = mx::expand_dims(at(step, 1, t), -1);
      s = s * mx::exp(now * decay_rate) + now * mx::expand_dims(at(exact, 1, t), -1) * mx::expand_dims(at(in, 1, t), 1);
      results.push_back(mx::squeeze(mx::matmul(s, mx::expand_dims(at(out, 1, t), -1)), -1));
    }
    state = s;
    return mx::stack(results, 1);
  });
  return mx::astype(y + exact * in_float32(skip), x.dtype());
}

mx::array mlx_gated_rms_norm(const mx::array& x, const Columns& gate, const mx::array& weight, float eps, int size,
                             bool gate_first) {
  auto groups = x.shape();
  groups.back() = x.shape(-1) / size;
  groups.push_back(size);
  const auto z = mx::reshape(silu(take_columns(gate)), groups), in = mx::reshape(x, groups);
  const auto shaped = int(weight.size()) == size ? weight : mx::reshape(weight, {groups[groups.size() - 2], size});
  const auto norm = mx::fast::rms_norm(gate_first ? in * z : in, std::nullopt, eps) * mx::astype(shaped, x.dtype());
  return mx::reshape(gate_first ? norm : norm * z, x.shape());
}

}  // namespace mlx_lm::ops
