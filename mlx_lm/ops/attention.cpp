#include "mlx_lm/ops/attention.h"

#include <cmath>

#include "mlx_lm/ops/attention_mlx.h"
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

// A buffer of the kernels, without its memory.
struct Buffer {
  KVFormat format;
  kernels::Type type;
  int capacity;

  Buffer(const KVBuffer& b) : format(b.format), type(kernel_type(b.dtype())), capacity(b.rows()) {}
  int arrays() const { return format.quantized() ? 3 : 1; }
  // arrays: its own, from the first on. Those of row b of the batch and the following. Of a floating-point buffer only
  // `codes` counts.
  kernels::AffineRows rows(const mx::array* arrays, int b) const {
    const auto from = [&](int i) -> void* {
      const size_t bytes = arrays[i].nbytes() / size_t(arrays[i].shape(0));
      return const_cast<char*>(arrays[i].data<char>()) + size_t(b) * bytes;
    };
    kernels::AffineRows rows{.bits = format.bits, .group_size = format.group_size, .type = type};
    rows.codes = from(0);
    if (!format.quantized()) return rows;
    rows.scales = from(1);
    rows.biases = from(2);
    return rows;
  }
};

// The parts in which the rows of a batch are gone through, so that the runs of each lie end to end: together where
// there is one run alone.
int parts_of(int batch, size_t runs) { return runs > 1 ? batch : 1; }

// Inputs: the new keys and the new values, then the arrays of each slot's buffers. Outputs: those arrays.
struct WriteRows {
  static constexpr const char* kName = "WriteRows";
  static constexpr bool kInPlace = true;
  struct Slot {
    int tokens, row;
    Buffer keys, values;
  };
  int batch, heads, key_dim, value_dim;
  std::vector<Slot> slots;
  std::optional<RopeWork> rope;  // of the new keys

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    for (size_t i = 0; i < outputs.size(); ++i) outputs[i].copy_shared_buffer(inputs[i + 2]);
    const int parts = parts_of(batch, slots.size());
    std::vector<kernels::AffineRows> to;  // of keys and values in turn
    for (int part = 0; part < parts; ++part) {
      const mx::array* array = outputs.data();
      for (const Slot& slot : slots) {
        for (const Buffer* buffer : {&slot.keys, &slot.values}) {
          to.push_back(buffer->rows(array, part));
          array += buffer->arrays();
        }
      }
    }
    auto work = *this;
    work.batch /= parts;
    return [w = std::move(work), to = std::move(to), k = inputs[0].data<float>(), v = inputs[1].data<float>()] {
      const RotatedRows rotated(k, w.rope);
      const float *keys = rotated.get(), *values = v;
      for (size_t i = 0; i < to.size(); i += 2) {
        const Slot& slot = w.slots[i / 2 % w.slots.size()];
        w.write(keys, w.key_dim, slot, slot.keys, to[i]);
        w.write(values, w.value_dim, slot, slot.values, to[i + 1]);
      }
    };
  }

  void write(const float*& from, int dim, const Slot& slot, const Buffer& buffer, const kernels::AffineRows& to) const {
    if (buffer.format.quantized()) {
      kernels::write_rows(from, kernels::Type::f32, batch, slot.tokens, heads, dim, to, buffer.capacity, slot.row);
    } else {
      kernels::write_rows(from, batch, slot.tokens, heads, dim, to.codes, buffer.type, buffer.capacity, slot.row);
    }
    from += size_t(batch) * slot.tokens * heads * dim;
  }
};

// Inputs: q; q_tail and the sinks, if there are any; then the arrays of each segment's keys and values.
struct Attention {
  static constexpr const char* kName = "Attention";
  std::vector<kernels::AttentionArgs> segments;
  std::vector<std::pair<Buffer, Buffer>> buffers;  // of each segment
  bool has_tail, has_sinks;
  std::optional<RopeWork> rope;  // of q, or of q_tail if there is one

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    auto work = *this;
    work.segments.clear();
    const mx::array* array = &inputs[1];
    const float* const tail = has_tail ? (array++)->data<float>() : nullptr;
    const float* const sinks = has_sinks ? (array++)->data<float>() : nullptr;
    float* out = outputs[0].data<float>();
    size_t query = 0;
    const mx::array* const first = array;
    for (int part = 0, parts = parts_of(segments[0].batch, segments.size()); part < parts; ++part) {
      array = first;
      for (size_t i = 0; i < segments.size(); ++i) {
        auto s = segments[i];
        const auto& [keys, values] = buffers[i];
        s.batch /= parts;
        s.sinks = sinks;
        const auto key_rows = keys.rows(array, part), value_rows = values.rows(array + keys.arrays(), part);
        if (keys.format.quantized()) {
          s.affine_keys = key_rows;
          s.affine_values = value_rows;
        } else {
          s.keys = key_rows.codes;
          s.values = value_rows.codes;
        }
        s.out = out + query * (has_tail ? s.head_dim : s.value_dim);
        array += keys.arrays() + values.arrays();
        query += size_t(s.queries) * s.heads;
        work.segments.push_back(s);
      }
    }
    return [w = std::move(work), q = inputs[0].data<float>(), tail]() mutable {
      const RotatedRows rotated(tail ? tail : q, w.rope);
      size_t query = 0;
      for (auto& s : w.segments) {
        s.q = (tail ? q : rotated.get()) + query * s.head_dim;
        if (tail) s.q_tail = rotated.get() + query * s.tail_dim;
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
      const auto write = [&](KVBuffer& buffer, const mx::array& rows) {
        KVBuffer heads_first = mx::astype(mx::swapaxes(tokens_of(rows, at, slot.tokens), 1, 2), buffer.dtype());
        if (buffer.format.quantized()) heads_first = quantized(heads_first, buffer.format);
        const auto to = buffer.arrays(), from = heads_first.arrays();
        for (size_t i = 0; i < to.size(); ++i) {
          mx::Shape stop = to[i]->shape();
          stop[2] = slot.row + slot.tokens;
          // Moved out first: MLX writes in place into a buffer that nothing else holds.
          const auto old = std::move(*to[i]);
          *to[i] = mx::slice_update(old, *from[i], {0, 0, slot.row, 0}, stop);
        }
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
    work.slots.push_back({slot.tokens, slot.row, *slot.keys, *slot.values});
    for (KVBuffer* buffer : {slot.keys, slot.values}) {
      for (const mx::array* array : buffer->arrays()) {
        shapes.push_back(array->shape());
        dtypes.push_back(array->dtype());
        inputs.push_back(*array);
      }
    }
  }
  auto written = cpu_step(std::move(shapes), dtypes, std::move(inputs), std::move(work));
  size_t next = 0;
  for (const auto& slot : slots) {
    for (KVBuffer* buffer : {slot.keys, slot.values}) {
      for (mx::array* array : buffer->arrays()) *array = std::move(written[next++]);
    }
  }
}

std::pair<mx::array, mx::array> write_rows(const mx::array& keys, const mx::array& values, const mx::array& new_keys,
                                           const mx::array& new_values, int row) {
  KVBuffer key_buffer(keys), value_buffer(values);
  const KVSlot slot{&key_buffer, &value_buffer, new_keys.shape(1), row};
  write_rows(std::span(&slot, 1), new_keys, new_values);
  return {key_buffer.data, value_buffer.data};
}

mx::array attention(const mx::array& q, const KVView& seen, float scale, const AttentionOptions& options) {
  if (backend() == Backend::mlx) {
    return by_run(
        q, seen.size(), [&](size_t i) { return seen[i].tokens; },
        [&, at = 0](const mx::array& part, size_t i) mutable {
          auto own = options;
          if (options.q_tail && seen.size() > 1) own.q_tail = tokens_of(*options.q_tail, at, seen[i].tokens);
          at += seen[i].tokens;
          return mlx_attention(part, seen[i], scale, own);
        });
  }
  const auto& tail = options.q_tail;
  Attention work{
      .segments = {}, .buffers = {}, .has_tail = tail.has_value(), .has_sinks = options.sinks.has_value(), .rope = {}};
  std::vector<mx::array> inputs{tail ? as_float32(unshaped(q)) : before_rope(q, work.rope)};
  if (tail) inputs.push_back(before_rope(*tail, work.rope));
  if (options.sinks) inputs.push_back(as_float32(*options.sinks));
  work.segments.reserve(seen.size());
  for (const auto& [keys, values, tokens, span] : seen) {
    work.segments.push_back({.batch = q.shape(0),
                             .queries = tokens,
                             .heads = q.shape(2),
                             .kv_heads = keys.data.shape(1),
                             .head_dim = q.shape(3),
                             .capacity = keys.rows(),
                             .length = span.length,
                             .start = span.start,
                             .window = span.window,
                             .scale = scale,
                             .type = kernel_type(keys.dtype()),
                             .value_dim = tail ? 0 : values.dim(),
                             .softcap = options.softcap,
                             .tail_dim = tail ? values.dim() : 0});
    work.buffers.emplace_back(keys, values);
    for (const KVBuffer* buffer : {&keys, &values}) {
      for (auto& array : buffer->arrays()) inputs.push_back(std::move(array));
    }
  }
  auto shape = q.shape();
  shape.back() = (tail ? seen[0].keys : seen[0].values).dim();
  return cpu_step(std::move(shape), std::move(inputs), std::move(work));
}

mx::array attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span, float scale,
                    const AttentionOptions& options) {
  return attention(q, KVView{{keys, values, q.shape(1), span}}, scale, options);
}

}  // namespace mlx_lm::ops
