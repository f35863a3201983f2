#include "mlx_lm/ops/ops.h"

#include <cmath>
#include <cstring>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {
namespace {

kernels::Type kernel_type(mx::Dtype dtype) {
  return dtype == mx::float16 ? kernels::Type::f16 : dtype == mx::bfloat16 ? kernels::Type::bf16 : kernels::Type::f32;
}

std::vector<float> rates_of(const Rope::Options& o) {
  std::vector<float> rates(o.dims / 2);
  for (int i = 0; i < o.dims / 2; ++i) {
    const double freq = o.freqs.empty() ? std::pow(double(o.base), 2.0 * i / o.dims) : double(o.freqs[i]);
    rates[i] = float(o.scale / freq);
  }
  return rates;
}

}  // namespace

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  if (backend() == Backend::mlx) return mx::fast::rms_norm(x, weight, eps);
  return cpu_step("RMSNorm", x.shape(), mx::float32, {as_float32(x), as_float32(weight)},
                  [eps](const auto& inputs, auto& outputs) {
                    allocate(outputs[0]);
                    const int size = inputs[1].size();
                    return [eps, size, n = int(inputs[0].size() / size), x = inputs[0].template data<float>(),
                            w = inputs[1].template data<float>(),
                            out = outputs[0].template data<float>()] { kernels::rms_norm(x, w, n, size, eps, out); };
                  });
}

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  if (backend() == Backend::mlx) return gate * mx::sigmoid(gate) * up;
  return cpu_step(
      "SwiGLU", gate.shape(), mx::float32, {as_float32(gate), as_float32(up)}, [](const auto& inputs, auto& outputs) {
        allocate(outputs[0]);
        return [n = inputs[0].size(), gate = inputs[0].template data<float>(), up = inputs[1].template data<float>(),
                out = outputs[0].template data<float>()] { kernels::swiglu(gate, up, n, out); };
      });
}

Rope::Rope(Options options) {
  auto rates = rates_of(options);
  table_ = std::make_shared<const Table>(Table{std::move(options), std::move(rates)});
}

mx::array rope(const mx::array& x, const Rope& rope, int offset) {
  const auto& o = rope.options();
  if (backend() == Backend::mlx) {
    auto heads_first = mx::swapaxes(x, 1, 2);
    if (o.magnitude != 1) {
      auto rotating = mx::arange(x.shape(3)) < mx::array(o.dims);
      heads_first = heads_first * mx::astype(mx::where(rotating, mx::array(o.magnitude), mx::array(1.f)), x.dtype());
    }
    auto base = o.freqs.empty() ? std::optional(o.base) : std::nullopt;
    auto freqs = o.freqs.empty() ? std::nullopt : std::optional(mx::array(o.freqs.begin(), {o.dims / 2}, mx::float32));
    return mx::swapaxes(mx::fast::rope(heads_first, o.dims, o.traditional, base, o.scale, offset, freqs), 1, 2);
  }
  const kernels::RopeArgs args{.batch = x.shape(0),
                               .length = x.shape(1),
                               .heads = x.shape(2),
                               .head_dim = x.shape(3),
                               .dims = o.dims,
                               .traditional = o.traditional,
                               .rates = rope.rates().data(),
                               .magnitude = o.magnitude,
                               .offset = offset};
  return cpu_step("RoPE", x.shape(), mx::float32, {as_float32(x)},
                  [args, table = rope.table_](const auto& inputs, auto& outputs) {
                    allocate(outputs[0]);
                    return [args, table, x = inputs[0].template data<float>(),
                            out = outputs[0].template data<float>()] { kernels::rope(x, args, out); };
                  });
}

std::pair<mx::array, mx::array> write_rows(const mx::array& keys, const mx::array& values, const mx::array& new_keys,
                                           const mx::array& new_values, int position) {
  if (backend() == Backend::mlx) {
    auto write = [&](const mx::array& buffer, const mx::array& rows) {
      auto heads_first = mx::astype(mx::swapaxes(rows, 1, 2), buffer.dtype());
      mx::Shape stop = buffer.shape();
      stop[2] = position + rows.shape(1);
      return mx::slice_update(buffer, heads_first, {0, 0, position, 0}, stop);
    };
    return {write(keys, new_keys), write(values, new_values)};
  }
  auto prepare = [position](const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
    for (int i : {0, 1}) outputs[i].copy_shared_buffer(inputs[i]);
    const auto& rows = inputs[2].shape();  // (B, L, K, D)
    return [position, batch = rows[0], length = rows[1], heads = rows[2], head_dim = rows[3],
            capacity = inputs[0].shape(2), key_type = kernel_type(inputs[0].dtype()), value_dim = inputs[3].shape(3),
            value_type = kernel_type(inputs[1].dtype()), k = inputs[2].data<float>(), v = inputs[3].data<float>(),
            keys = outputs[0].data<void>(), values = outputs[1].data<void>()] {
      kernels::write_rows(k, batch, length, heads, head_dim, keys, key_type, capacity, position);
      kernels::write_rows(v, batch, length, heads, value_dim, values, value_type, capacity, position);
    };
  };
  auto step = std::make_shared<CpuStep<decltype(prepare)>>(mx::default_stream(mx::Device::cpu), "WriteRows", prepare);
  auto written = mx::array::make_arrays({keys.shape(), values.shape()}, {keys.dtype(), values.dtype()}, step,
                                        {keys, values, as_float32(new_keys), as_float32(new_values)});
  return {written[0], written[1]};
}

namespace {

// true where query l may see row j. Shapes: (L, length).
mx::array visible(int queries, const Span& span) {
  auto rows = mx::arange(span.length);
  auto positions = mx::expand_dims(mx::arange(span.start, span.start + queries), 1);
  auto mask = mx::less_equal(rows, positions);
  return span.window > 0 ? mx::logical_and(mask, mx::greater(rows, positions - span.window)) : mask;
}

// Soft-capped scores, which MLX's own attention does not know.
mx::array capped_attention(const mx::array& q, const mx::array& keys, const mx::array& values, const mx::array& mask,
                           float scale, const AttentionOptions& o) {
  const int batch = q.shape(0), heads = q.shape(1), queries = q.shape(2), kv_heads = keys.shape(1);
  auto grouped = mx::reshape(q * mx::array(scale, q.dtype()), {batch, kv_heads, heads / kv_heads, queries, -1});
  auto scores = mx::matmul(grouped, mx::swapaxes(mx::expand_dims(keys, 2), -1, -2));
  const mx::array cap(o.softcap, q.dtype());
  scores = mx::where(mask, mx::tanh(scores / cap) * cap, mx::array(-INFINITY, q.dtype()));
  if (o.sinks) {
    auto sinks = mx::reshape(mx::astype(*o.sinks, q.dtype()), {1, kv_heads, heads / kv_heads, 1, 1});
    scores = mx::concatenate({mx::broadcast_to(sinks, {batch, kv_heads, heads / kv_heads, queries, 1}), scores}, -1);
  }
  auto weights = mx::softmax(scores, -1, /*precise=*/true);
  if (o.sinks) {
    weights = mx::slice(weights, {0, 0, 0, 0, 1}, {batch, kv_heads, heads / kv_heads, queries, weights.shape(-1)});
  }
  return mx::reshape(mx::matmul(weights, mx::expand_dims(values, 2)), {batch, heads, queries, values.shape(3)});
}

mx::array mlx_attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span,
                        float scale, const AttentionOptions& o) {
  auto in_use = [&](const mx::array& buffer) {
    auto stop = buffer.shape();
    stop[2] = span.length;
    return mx::astype(mx::slice(buffer, {0, 0, 0, 0}, stop), q.dtype());
  };
  auto heads_first = mx::swapaxes(q, 1, 2);
  const int queries = q.shape(1);
  if (o.softcap != 0) {
    auto out = capped_attention(heads_first, in_use(keys), in_use(values), visible(queries, span), scale, o);
    return mx::swapaxes(out, 1, 2);
  }
  const bool plain = span.window == 0 && span.start + queries == span.length;
  const std::string mode = plain ? (queries > 1 ? "causal" : "") : "array";
  auto mask = plain ? std::nullopt : std::optional(visible(queries, span));
  auto sinks = o.sinks ? std::optional(mx::astype(*o.sinks, q.dtype())) : std::nullopt;
  auto out =
      mx::fast::scaled_dot_product_attention(heads_first, in_use(keys), in_use(values), scale, mode, mask, sinks);
  return mx::swapaxes(out, 1, 2);
}

}  // namespace

mx::array attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span, float scale,
                    const AttentionOptions& options) {
  if (backend() == Backend::mlx) return mlx_attention(q, keys, values, span, scale, options);
  const kernels::AttentionArgs args{.batch = q.shape(0),
                                    .queries = q.shape(1),
                                    .heads = q.shape(2),
                                    .kv_heads = keys.shape(1),
                                    .head_dim = q.shape(3),
                                    .capacity = keys.shape(2),
                                    .length = span.length,
                                    .start = span.start,
                                    .window = span.window,
                                    .scale = scale,
                                    .type = kernel_type(keys.dtype()),
                                    .value_dim = values.shape(3),
                                    .softcap = options.softcap};
  auto shape = q.shape();
  shape.back() = args.value_dim;
  std::vector<mx::array> all{as_float32(q), keys, values};
  if (options.sinks) all.push_back(as_float32(*options.sinks));
  return cpu_step("Attention", std::move(shape), mx::float32, std::move(all),
                  [args](const auto& inputs, auto& outputs) {
                    allocate(outputs[0]);
                    auto with_sinks = args;
                    if (inputs.size() > 3) with_sinks.sinks = inputs[3].template data<float>();
                    return [args = with_sinks, q = inputs[0].template data<float>(),
                            k = inputs[1].template data<void>(), v = inputs[2].template data<void>(),
                            out = outputs[0].template data<float>()] { kernels::attention(q, k, v, args, out); };
                  });
}

mx::array rms_norm(const mx::array& x, float eps) {
  if (backend() == Backend::mlx) return mx::fast::rms_norm(x, std::nullopt, eps);
  return cpu_step("RMSNorm", x.shape(), mx::float32, {as_float32(x)}, [eps](const auto& inputs, auto& outputs) {
    allocate(outputs[0]);
    const int size = inputs[0].shape(-1);
    return [eps, size, n = int(inputs[0].size() / size), x = inputs[0].template data<float>(),
            out = outputs[0].template data<float>()] { kernels::rms_norm(x, nullptr, n, size, eps, out); };
  });
}

mx::array layer_norm(const mx::array& x, const std::optional<mx::array>& weight, const std::optional<mx::array>& bias,
                     float eps) {
  if (backend() == Backend::mlx) return mx::fast::layer_norm(x, weight, bias, eps);
  std::vector<mx::array> all{as_float32(x)};
  if (weight) all.push_back(as_float32(*weight));
  if (bias) all.push_back(as_float32(*bias));
  return cpu_step("LayerNorm", x.shape(), mx::float32, std::move(all),
                  [eps, weighted = weight.has_value(), biased = bias.has_value()](const auto& inputs, auto& outputs) {
                    allocate(outputs[0]);
                    const int size = inputs[0].shape(-1);
                    return [eps, size, n = int(inputs[0].size() / size), x = inputs[0].template data<float>(),
                            weight = weighted ? inputs[1].template data<float>() : nullptr,
                            bias = biased ? inputs.back().template data<float>() : nullptr,
                            out = outputs[0].template data<float>()] {
                      kernels::layer_norm(x, weight, bias, n, size, eps, out);
                    };
                  });
}

namespace {

kernels::Gelu kernel_gelu(Gelu kind) { return kind == Gelu::erf ? kernels::Gelu::erf : kernels::Gelu::tanh; }

mx::array mlx_gelu(const mx::array& x, Gelu kind) {
  const auto number = [&](double value) { return mx::array(float(value), x.dtype()); };
  const auto share = kind == Gelu::erf ? mx::erf(x * number(std::sqrt(0.5)))
                                       : mx::tanh(number(std::sqrt(2 / M_PI)) * (x + number(0.044715) * x * x * x));
  return number(0.5) * x * (number(1) + share);
}

}  // namespace

mx::array gelu(const mx::array& x, Gelu kind) {
  if (backend() == Backend::mlx) return mlx_gelu(x, kind);
  return cpu_step("GELU", x.shape(), mx::float32, {as_float32(x)},
                  [kind = kernel_gelu(kind)](const auto& inputs, auto& outputs) {
                    allocate(outputs[0]);
                    return [kind, n = inputs[0].size(), x = inputs[0].template data<float>(),
                            out = outputs[0].template data<float>()] { kernels::geglu(x, nullptr, n, kind, out); };
                  });
}

mx::array geglu(const mx::array& gate, const mx::array& up, Gelu kind) {
  if (backend() == Backend::mlx) return mlx_gelu(gate, kind) * up;
  return cpu_step("GEGLU", gate.shape(), mx::float32, {as_float32(gate), as_float32(up)},
                  [kind = kernel_gelu(kind)](const auto& inputs, auto& outputs) {
                    allocate(outputs[0]);
                    return [kind, n = inputs[0].size(), gate = inputs[0].template data<float>(),
                            up = inputs[1].template data<float>(),
                            out = outputs[0].template data<float>()] { kernels::geglu(gate, up, n, kind, out); };
                  });
}

mx::array argmax(const mx::array& x) {
  if (backend() == Backend::mlx) return mx::argmax(x, -1);
  auto shape = x.shape();
  shape.pop_back();
  return cpu_step("Argmax", std::move(shape), mx::uint32, {as_float32(x)}, [](const auto& inputs, auto& outputs) {
    allocate(outputs[0]);
    return [n = int(outputs[0].size()), size = inputs[0].shape(-1), x = inputs[0].template data<float>(),
            out = outputs[0].template data<uint32_t>()] { kernels::argmax(x, n, size, out); };
  });
}

std::pair<mx::array, mx::array> top_k(const mx::array& x, int k) {
  auto shape = x.shape();
  if (backend() == Backend::mlx) {
    shape.back() = k;
    auto places = mx::slice(mx::argpartition(mx::negative(x), k - 1, -1), mx::Shape(x.ndim(), 0), shape);
    const auto order = mx::argsort(mx::negative(mx::take_along_axis(x, places, -1)), -1);
    places = mx::take_along_axis(places, order, -1);
    return {mx::take_along_axis(x, places, -1), places};
  }
  auto prepare = [k](const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
    for (auto& output : outputs) allocate(output);
    return [k, n = int(outputs[0].size() / k), size = inputs[0].shape(-1), x = inputs[0].data<float>(),
            values = outputs[0].data<float>(),
            places = outputs[1].data<uint32_t>()] { kernels::top_k(x, n, size, k, values, places); };
  };
  shape.back() = k;
  auto step = std::make_shared<CpuStep<decltype(prepare)>>(mx::default_stream(mx::Device::cpu), "TopK", prepare);
  auto found = mx::array::make_arrays({shape, shape}, {mx::float32, mx::uint32}, step, {as_float32(x)});
  return {found[0], found[1]};
}

}  // namespace mlx_lm::ops
