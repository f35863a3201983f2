#include "mlx_lm/ops/attention.h"

#include <cmath>

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

struct RopeWork {
  static constexpr const char* kName = "RoPE";
  kernels::RopeArgs args;  // all but length and offset, which are each run's
  int length;              // tokens of all runs
  Runs runs;
  std::shared_ptr<const void> table;  // of args.rates

  size_t size() const { return size_t(args.batch) * length * args.heads * args.head_dim; }

  void rotate(const float* x, float* out) const {
    auto a = args;
    for (const Run& run : runs) {
      a.length = run.tokens;
      a.offset = run.position;
      kernels::rope(x, a, out);
      const size_t done = size_t(run.tokens) * a.heads * a.head_dim;
      x += done, out += done;
    }
  }

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [work = *this, x = inputs[0].data<float>(), out = outputs[0].data<float>()] { work.rotate(x, out); };
  }
};

// Rows that a later step reads: as they are, or rotated first, into memory that lasts as long as this.
class RotatedRows {
 public:
  RotatedRows(const float* x, const std::optional<RopeWork>& rope) : rows_(x) {
    if (!rope) return;
    thread_local std::vector<float> memory;
    if (memory.size() < rope->size()) memory.resize(rope->size());
    rope->rotate(x, memory.data());
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

mx::array mlx_rope(const mx::array& x, const Rope::Options& o, int offset) {
  auto heads_first = mx::swapaxes(x, 1, 2);
  if (o.magnitude != 1) {
    auto rotating = mx::arange(x.shape(3)) < mx::array(o.dims);
    heads_first = heads_first * mx::astype(mx::where(rotating, mx::array(o.magnitude), mx::array(1.f)), x.dtype());
  }
  auto base = o.freqs.empty() ? std::optional(o.base) : std::nullopt;
  auto freqs = o.freqs.empty() ? std::nullopt : std::optional(mx::array(o.freqs.begin(), {o.dims / 2}, mx::float32));
  return mx::swapaxes(mx::fast::rope(heads_first, o.dims, o.traditional, base, o.scale, offset, freqs), 1, 2);
}

// The tokens [begin, begin + n) of x (B, L, ...).
mx::array tokens_of(const mx::array& x, int begin, int n) {
  mx::Shape start(x.ndim(), 0), stop = x.shape();
  start[1] = begin;
  stop[1] = begin + n;
  return mx::slice(x, start, stop);
}

// Runs work(part of x, i) for each run of so many tokens and puts the results end to end.
template <class Tokens, class F>
mx::array by_run(const mx::array& x, size_t runs, Tokens tokens, F work) {
  if (runs == 1) return work(x, 0);
  std::vector<mx::array> parts;
  for (size_t i = 0, at = 0; i < runs; at += tokens(i), ++i) parts.push_back(work(tokens_of(x, at, tokens(i)), i));
  return mx::concatenate(std::move(parts), 1);
}

}  // namespace

Rope::Rope(Options options) {
  auto rates = rates_of(options);
  table_ = std::make_shared<const Table>(Table{std::move(options), std::move(rates)});
}

mx::array rope(const mx::array& x, const Rope& rope, const Runs& runs) {
  const auto& o = rope.options();
  if (backend() == Backend::mlx) {
    return by_run(
        x, runs.size(), [&](size_t i) { return runs[i].tokens; },
        [&](const mx::array& part, size_t i) { return mlx_rope(part, o, runs[i].position); });
  }
  const kernels::RopeArgs args{.batch = x.shape(0),
                               .heads = x.shape(2),
                               .head_dim = x.shape(3),
                               .dims = o.dims,
                               .traditional = o.traditional,
                               .rates = rope.rates().data(),
                               .magnitude = o.magnitude};
  return cpu_step(x.shape(), {as_float32(unshaped(x))}, RopeWork{args, x.shape(1), runs, rope.table_});
}

mx::array rope(const mx::array& x, const Rope& r, int offset) { return rope(x, r, Runs{{x.shape(1), offset}}); }

namespace {

// Inputs: the new keys and the new values, then each slot's buffers. Outputs: the buffers.
struct WriteRows {
  static constexpr const char* kName = "WriteRows";
  struct Rows {
    int tokens, row;
  };
  int batch, heads, key_dim, value_dim;
  std::vector<Rows> slots;
  std::optional<RopeWork> rope;  // of the new keys

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    struct Buffer {
      void* data;
      kernels::Type type;
      int capacity;
    };
    std::vector<Buffer> buffers;
    buffers.reserve(outputs.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      const auto& buffer = inputs[i + 2];
      outputs[i].copy_shared_buffer(buffer);
      buffers.push_back({outputs[i].data<void>(), kernel_type(buffer.dtype()), buffer.shape(2)});
    }
    return [w = *this, buffers = std::move(buffers), k = inputs[0].data<float>(), v = inputs[1].data<float>()] {
      const RotatedRows rotated(k, w.rope);
      const float *keys = rotated.get(), *values = v;
      for (size_t i = 0; i < w.slots.size(); ++i) {
        const auto [tokens, row] = w.slots[i];
        const auto write = [&](const float*& from, int dim, const Buffer& to) {
          kernels::write_rows(from, w.batch, tokens, w.heads, dim, to.data, to.type, to.capacity, row);
          from += size_t(tokens) * w.heads * dim;
        };
        write(keys, w.key_dim, buffers[2 * i]);
        write(values, w.value_dim, buffers[2 * i + 1]);
      }
    };
  }
};

// Inputs: q; the sinks, if there are any; then each segment's keys and values.
struct Attention {
  static constexpr const char* kName = "Attention";
  std::vector<kernels::AttentionArgs> segments;
  bool has_sinks;
  std::optional<RopeWork> rope;  // of q

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    auto work = *this;
    const mx::array* buffer = &inputs[has_sinks ? 2 : 1];
    float* out = outputs[0].data<float>();
    size_t query = 0;
    for (auto& s : work.segments) {
      s.sinks = has_sinks ? inputs[1].data<float>() : nullptr;
      s.keys = buffer[0].data<void>();
      s.values = buffer[1].data<void>();
      s.out = out + query * s.value_dim;
      buffer += 2;
      query += size_t(s.queries) * s.heads;
    }
    return [w = std::move(work), q = inputs[0].data<float>()]() mutable {
      const RotatedRows rotated(q, w.rope);
      size_t query = 0;
      for (auto& s : w.segments) {
        s.q = rotated.get() + query * s.head_dim;
        query += size_t(s.queries) * s.heads;
      }
      kernels::attention(w.segments);
    };
  }
};

}  // namespace

void write_rows(std::span<const KVSlot> slots, const mx::array& new_keys, const mx::array& new_values) {
  if (backend() == Backend::mlx) {
    int at = 0;
    for (const auto& slot : slots) {
      const auto write = [&](mx::array& buffer, const mx::array& rows) {
        auto heads_first = mx::astype(mx::swapaxes(tokens_of(rows, at, slot.tokens), 1, 2), buffer.dtype());
        mx::Shape stop = buffer.shape();
        stop[2] = slot.row + slot.tokens;
        // Moved out first: MLX writes in place into a buffer that nothing else holds.
        const auto old = std::move(buffer);
        buffer = mx::slice_update(old, heads_first, {0, 0, slot.row, 0}, stop);
      };
      write(*slot.keys, new_keys);
      write(*slot.values, new_values);
      at += slot.tokens;
    }
    return;
  }
  WriteRows work{.batch = new_keys.shape(0),
                 .heads = new_keys.shape(2),
                 .key_dim = new_keys.shape(3),
                 .value_dim = new_values.shape(3),
                 .slots = {},
                 .rope = {}};
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  std::vector<mx::array> inputs{before_rope(new_keys, work.rope), as_float32(unshaped(new_values))};
  for (const auto& slot : slots) {
    work.slots.push_back({slot.tokens, slot.row});
    for (const mx::array* buffer : {slot.keys, slot.values}) {
      shapes.push_back(buffer->shape());
      dtypes.push_back(buffer->dtype());
      inputs.push_back(*buffer);
    }
  }
  auto written = cpu_step(std::move(shapes), dtypes, std::move(inputs), std::move(work));
  for (size_t i = 0; i < slots.size(); ++i) {
    *slots[i].keys = std::move(written[2 * i]);
    *slots[i].values = std::move(written[2 * i + 1]);
  }
}

std::pair<mx::array, mx::array> write_rows(const mx::array& keys, const mx::array& values, const mx::array& new_keys,
                                           const mx::array& new_values, int row) {
  std::pair buffers(keys, values);
  const KVSlot slot{&buffers.first, &buffers.second, new_keys.shape(1), row};
  write_rows(std::span(&slot, 1), new_keys, new_values);
  return buffers;
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

mx::array mlx_attention(const mx::array& q, const KVSegment& seen, float scale, const AttentionOptions& o) {
  const Span& span = seen.span;
  auto in_use = [&](const mx::array& buffer) {
    auto stop = buffer.shape();
    stop[2] = span.length;
    return mx::astype(mx::slice(buffer, {0, 0, 0, 0}, stop), q.dtype());
  };
  auto heads_first = mx::swapaxes(q, 1, 2);
  const int queries = q.shape(1);
  if (o.softcap != 0) {
    auto out = capped_attention(heads_first, in_use(seen.keys), in_use(seen.values), visible(queries, span), scale, o);
    return mx::swapaxes(out, 1, 2);
  }
  const bool plain = span.window == 0 && span.start + queries == span.length;
  const std::string mode = plain ? (queries > 1 ? "causal" : "") : "array";
  auto mask = plain ? std::nullopt : std::optional(visible(queries, span));
  auto sinks = o.sinks ? std::optional(mx::astype(*o.sinks, q.dtype())) : std::nullopt;
  auto out = mx::fast::scaled_dot_product_attention(heads_first, in_use(seen.keys), in_use(seen.values), scale, mode,
                                                    mask, sinks);
  return mx::swapaxes(out, 1, 2);
}

}  // namespace

mx::array attention(const mx::array& q, const KVView& seen, float scale, const AttentionOptions& options) {
  if (backend() == Backend::mlx) {
    return by_run(
        q, seen.size(), [&](size_t i) { return seen[i].tokens; },
        [&](const mx::array& part, size_t i) { return mlx_attention(part, seen[i], scale, options); });
  }
  Attention work{.segments = {}, .has_sinks = options.sinks.has_value(), .rope = {}};
  std::vector<mx::array> inputs{before_rope(q, work.rope)};
  if (options.sinks) inputs.push_back(as_float32(*options.sinks));
  work.segments.reserve(seen.size());
  for (const auto& [keys, values, tokens, span] : seen) {
    work.segments.push_back({.batch = q.shape(0),
                             .queries = tokens,
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
                             .softcap = options.softcap});
    inputs.push_back(keys);
    inputs.push_back(values);
  }
  auto shape = q.shape();
  shape.back() = seen[0].values.shape(3);
  return cpu_step(std::move(shape), std::move(inputs), std::move(work));
}

mx::array attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span, float scale,
                    const AttentionOptions& options) {
  return attention(q, KVView{{keys, values, q.shape(1), span}}, scale, options);
}

}  // namespace mlx_lm::ops
