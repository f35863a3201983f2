#include "mlx_lm/ops/ops.h"

#include <cmath>
#include <cstring>

#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/matrix_form.h"

namespace mlx_lm::ops {
namespace {

std::vector<float> rates_of(const Rope::Options& o) {
  std::vector<float> rates(o.dims / 2);
  for (int i = 0; i < o.dims / 2; ++i) {
    const double freq = o.freqs.empty() ? std::pow(double(o.base), 2.0 * i / o.dims) : double(o.freqs[i]);
    rates[i] = float(o.scale / freq);
  }
  return rates;
}

}  // namespace

namespace {

struct RopeWork {
  static constexpr const char* kName = "RoPE";
  kernels::RopeArgs args;
  std::shared_ptr<const void> table;  // of args.rates

  size_t size() const { return size_t(args.batch) * args.length * args.heads * args.head_dim; }

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [work = *this, x = inputs[0].data<float>(), out = outputs[0].data<float>()] {
      kernels::rope(x, work.args, out);
    };
  }
};

// Rows that a later step reads: as they are, or rotated first, into memory that lasts as long as this.
class RotatedRows {
 public:
  RotatedRows(const float* x, const std::optional<RopeWork>& rope) : rows_(x) {
    if (!rope) return;
    thread_local std::vector<float> memory;
    if (memory.size() < rope->size()) memory.resize(rope->size());
    kernels::rope(x, rope->args, memory.data());
    rows_ = memory.data();
  }
  const float* get() const { return rows_; }

 private:
  const float* rows_;
};

// x, or what it is rotated from and how, if that has not been computed yet.
mx::array before_rope(const mx::array& x, std::optional<RopeWork>& rope) {
  if (const auto* work = pending<RopeWork>(x)) {
    rope = *work;
    return x.inputs()[0];
  }
  return as_float32(unshaped(x));
}

}  // namespace

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
  return cpu_step(x.shape(), {as_float32(unshaped(x))}, RopeWork{args, rope.table_});
}

namespace {

// Inputs: the buffers (B, K, C, D) of keys and values, new keys and new values. Outputs: the buffers.
struct WriteRows {
  static constexpr const char* kName = "WriteRows";
  int batch, length, heads, key_dim, value_dim;
  int position;
  std::optional<RopeWork> rope;  // of the new keys

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    for (int i : {0, 1}) outputs[i].copy_shared_buffer(inputs[i]);
    return [w = *this, capacity = inputs[0].shape(2), key_type = kernel_type(inputs[0].dtype()),
            value_type = kernel_type(inputs[1].dtype()), k = inputs[2].data<float>(), v = inputs[3].data<float>(),
            keys = outputs[0].data<void>(), values = outputs[1].data<void>()] {
      const RotatedRows rotated(k, w.rope);
      kernels::write_rows(rotated.get(), w.batch, w.length, w.heads, w.key_dim, keys, key_type, capacity, w.position);
      kernels::write_rows(v, w.batch, w.length, w.heads, w.value_dim, values, value_type, capacity, w.position);
    };
  }
};

// Inputs: q, keys, values.
struct Attention {
  static constexpr const char* kName = "Attention";
  kernels::AttentionArgs args;
  std::optional<RopeWork> rope;  // of q

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [w = *this, q = inputs[0].data<float>(), k = inputs[1].data<void>(), v = inputs[2].data<void>(),
            out = outputs[0].data<float>()] { kernels::attention(RotatedRows(q, w.rope).get(), k, v, w.args, out); };
  }
};

}  // namespace

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
  const auto& rows = new_keys.shape();  // (B, L, K, D)
  WriteRows work{.batch = rows[0],
                 .length = rows[1],
                 .heads = rows[2],
                 .key_dim = rows[3],
                 .value_dim = new_values.shape(3),
                 .position = position,
                 .rope = {}};
  auto fresh_keys = before_rope(new_keys, work.rope);
  auto written = cpu_step({keys.shape(), values.shape()}, {keys.dtype(), values.dtype()},
                          {keys, values, std::move(fresh_keys), as_float32(unshaped(new_values))}, std::move(work));
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

mx::array mlx_attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span,
                        float scale) {
  auto in_use = [&](const mx::array& buffer) {
    auto stop = buffer.shape();
    stop[2] = span.length;
    return mx::astype(mx::slice(buffer, {0, 0, 0, 0}, stop), q.dtype());
  };
  auto heads_first = mx::swapaxes(q, 1, 2);
  const int queries = q.shape(1);
  const bool plain = span.window == 0 && span.start + queries == span.length;
  const std::string mode = plain ? (queries > 1 ? "causal" : "") : "array";
  auto mask = plain ? std::nullopt : std::optional(visible(queries, span));
  auto out = mx::fast::scaled_dot_product_attention(heads_first, in_use(keys), in_use(values), scale, mode, mask);
  return mx::swapaxes(out, 1, 2);
}

}  // namespace

mx::array attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span, float scale) {
  if (backend() == Backend::mlx) return mlx_attention(q, keys, values, span, scale);
  Attention work{.args = {.batch = q.shape(0),
                          .queries = q.shape(1),
                          .heads = q.shape(2),
                          .kv_heads = keys.shape(1),
                          .head_dim = q.shape(3),
                          .capacity = keys.shape(2),
                          .length = span.length,
                          .start = span.start,
                          .window = span.window,
                          .scale = scale,
                          .type = kernel_type(keys.dtype())},
                 .rope = {}};
  auto from = before_rope(q, work.rope);
  return cpu_step(q.shape(), {std::move(from), keys, values}, std::move(work));
}

}  // namespace mlx_lm::ops
