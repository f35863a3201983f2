#include "mlx_lm/ops/recurrent.h"

#include <cassert>

#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/recurrent_mlx.h"

namespace mlx_lm::ops {
namespace {

using Arrays = std::vector<mx::array>;

mx::array plain(const mx::array& x) { return as_float32(unshaped(x)); }

// The texts of a step, and where their states are: the last inputs, of those that have one, and the outputs after the
// first.
struct Texts {
  struct Run {
    int tokens;
    bool begun;
  };
  std::vector<Run> runs;
  int batch = 1;
  size_t state_size = 0;  // numbers of one row

  std::vector<kernels::Sequence> sequences(const Arrays& inputs, Arrays& outputs) const {
    for (auto& output : outputs) allocate(output);
    auto before = inputs.end();
    for (const auto& run : runs) before -= run.begun;
    std::vector<kernels::Sequence> sequences;
    size_t row = 0;
    for (int b = 0; b < batch; ++b) {
      auto state = before;
      for (size_t i = 0; i < runs.size(); ++i) {
        const float* from = runs[i].begun ? (state++)->data<float>() + b * state_size : nullptr;
        sequences.push_back({row, runs[i].tokens, from, outputs[i + 1].data<float>() + b * state_size});
        row += runs[i].tokens;
      }
    }
    return sequences;
  }
};

// Takes columns of the inputs one after another.
kernels::Columns over(kernels::Columns columns, const mx::array& x) {
  columns.data = x.data<float>();
  return columns;
}

// Inputs: the parts of x; the gates, if there are any; weight; bias, if there is one; states.
struct ConvolutionStep {
  static constexpr const char* kName = "Convolution";
  std::vector<kernels::Columns> x;
  std::vector<kernels::Columns> gates;  // in, out; or none
  int taps, channels;
  bool bias, silu;
  Texts texts;

  auto operator()(const Arrays& inputs, Arrays& outputs) const {
    auto next = inputs.begin();
    auto parts = x, gating = gates;
    for (auto& part : parts) part.data = (next++)->data<float>();
    for (auto& gate : gating) gate.data = (next++)->data<float>();
    kernels::ConvolutionArgs args{.taps = taps, .channels = channels, .silu = silu};
    args.weight = (next++)->data<float>();
    if (bias) args.bias = (next++)->data<float>();
    auto sequences = texts.sequences(inputs, outputs);
    args.out = outputs[0].data<float>();
    return [args, parts = std::move(parts), gating = std::move(gating), sequences = std::move(sequences)] {
      auto all = args;
      all.x = parts;
      if (!gating.empty()) all.gate_in = &gating[0], all.gate_out = &gating[1];
      kernels::convolution(all, sequences);
    };
  }
};

// Inputs: a; b, if there is one; rate, bias.
struct Decays {
  static constexpr const char* kName = "Decays";
  kernels::Columns a;
  std::optional<kernels::Columns> b;
  int shared;
  float low, high;

  auto operator()(const Arrays& inputs, Arrays& outputs) const {
    for (auto& output : outputs) allocate(output);
    auto next = inputs.begin();
    kernels::DecayArgs args{.shared = shared, .low = low, .high = high, .rows = next->size() / a.stride};
    args.a = over(a, *next++);
    auto second = b;
    if (second) second->data = (next++)->data<float>();
    args.rate = (next++)->data<float>();
    args.bias = (next++)->data<float>();
    args.decay = outputs[0].data<float>();
    args.write = outputs[1].data<float>();
    return [args, second] {
      auto all = args;
      if (second) all.b = &*second;
      kernels::decays(all);
    };
  }
};

// Inputs: q, k, v, decay, write; skip, if there is one; states.
struct LinearAttentionStep {
  static constexpr const char* kName = "LinearAttention";
  kernels::LinearAttentionArgs args;
  bool skip;
  Texts texts;

  auto operator()(const Arrays& inputs, Arrays& outputs) const {
    auto sequences = texts.sequences(inputs, outputs);
    auto all = args;
    all.q = over(args.q, inputs[0]);
    all.k = over(args.k, inputs[1]);
    all.v = over(args.v, inputs[2]);
    all.decay = inputs[3].data<float>();
    all.write = inputs[4].data<float>();
    if (skip) all.skip = inputs[5].data<float>();
    all.out = outputs[0].data<float>();
    return [all, sequences = std::move(sequences)] { kernels::linear_attention(all, sequences); };
  }
};

// Inputs: x, dt, b, c, rate, skip; states.
struct SelectiveScan {
  static constexpr const char* kName = "SelectiveScan";
  kernels::SelectiveScanArgs args;
  Texts texts;

  auto operator()(const Arrays& inputs, Arrays& outputs) const {
    auto sequences = texts.sequences(inputs, outputs);
    auto all = args;
    all.x = over(args.x, inputs[0]);
    all.dt = over(args.dt, inputs[1]);
    all.b = over(args.b, inputs[2]);
    all.c = over(args.c, inputs[3]);
    all.rate = inputs[4].data<float>();
    all.skip = inputs[5].data<float>();
    all.out = outputs[0].data<float>();
    return [all, sequences = std::move(sequences)] { kernels::selective_scan(all, sequences); };
  }
};

// Inputs: x, gate, weight.
struct GatedRMSNorm {
  static constexpr const char* kName = "GatedRMSNorm";
  kernels::GatedNormArgs args;

  auto operator()(const Arrays& inputs, Arrays& outputs) const {
    allocate(outputs[0]);
    auto all = args;
    all.x = inputs[0].data<float>();
    all.gate = over(args.gate, inputs[1]);
    all.weight = inputs[2].data<float>();
    all.rows = inputs[0].size() / size_t(args.gate.count);
    all.out = outputs[0].data<float>();
    return [all] { kernels::gated_norm(all); };
  }
};

// A step of texts, whose states it replaces. Its result is (B, L, last) where x is (B, L, ...). state: the shape of one
// row's.
template <class Work>
mx::array stateful_step(const mx::array& x, int last, Arrays inputs, Work work, const StateRuns& runs,
                        mx::Shape state) {
  work.texts.batch = x.shape(0);
  work.texts.state_size = 1;
  for (int n : state) work.texts.state_size *= size_t(n);
  state.insert(state.begin(), x.shape(0));
  int length = 0;
  for (const auto& run : runs) {
    assert(!*run.state || (*run.state)->shape() == state);
    work.texts.runs.push_back({run.tokens, run.state->has_value()});
    if (*run.state) inputs.push_back(as_float32(**run.state));
    length += run.tokens;
  }
  assert(length == x.shape(1));
  std::vector<mx::Shape> shapes(runs.size() + 1, state);
  shapes[0] = {x.shape(0), x.shape(1), last};
  auto out = cpu_step(shapes, std::vector<mx::Dtype>(shapes.size(), mx::float32), std::move(inputs), std::move(work));
  for (size_t i = 0; i < runs.size(); ++i) *runs[i].state = out[i + 1];
  return out[0];
}

}  // namespace

mx::array convolution(const std::vector<Columns>& x, const Convolution& how, const StateRuns& runs,
                      const std::optional<ConvolutionGates>& gates) {
  if (backend() == Backend::mlx) return mlx_convolution(x, how, runs, gates);
  const int taps = how.weight.shape(0), channels = how.weight.shape(1);
  ConvolutionStep step{.taps = taps, .channels = channels, .bias = how.bias.has_value(), .silu = how.silu};
  Arrays inputs;
  for (const auto& part : x) {
    step.x.push_back(part.over(nullptr));
    inputs.push_back(plain(part.x));
  }
  if (gates) {
    step.gates = {gates->in.over(nullptr), gates->out.over(nullptr)};
    inputs.push_back(plain(gates->in.x));
    inputs.push_back(plain(gates->out.x));
  }
  inputs.push_back(as_float32(how.weight));
  if (how.bias) inputs.push_back(as_float32(*how.bias));
  return stateful_step(x[0].x, channels, std::move(inputs), std::move(step), runs, {taps - 1, channels});
}

std::pair<mx::array, mx::array> decays(const Columns& a, const std::optional<Columns>& b, const Decay& how) {
  if (backend() == Backend::mlx) return mlx_decays(a, b, how);
  const int heads = int(how.rate.size()), shared = a.count / heads;
  Decays step{.a = a.over(nullptr), .shared = shared, .low = how.low, .high = how.high};
  Arrays inputs{plain(a.x)};
  if (b) {
    step.b = b->over(nullptr);
    inputs.push_back(plain(b->x));
  }
  inputs.push_back(as_float32(how.rate));
  inputs.push_back(as_float32(how.bias));
  mx::Shape each{a.x.shape(0), a.x.shape(1), heads};
  const auto write = each;
  if (shared > 1) each.push_back(shared);
  auto out = cpu_step({each, write}, {mx::float32, mx::float32}, std::move(inputs), std::move(step));
  return {out[0], out[1]};
}

mx::array linear_attention(const Columns& q, const Columns& k, const Columns& v, const mx::array& decay,
                           const mx::array& write, const LinearAttention& how, const StateRuns& runs) {
  if (backend() == Backend::mlx) return mlx_linear_attention(q, k, v, decay, write, how, runs);
  Arrays inputs{plain(q.x), plain(k.x), plain(v.x), plain(decay), plain(write)};
  if (how.skip) inputs.push_back(as_float32(*how.skip));
  LinearAttentionStep step{.args = {.q = q.over(nullptr),
                                    .k = k.over(nullptr),
                                    .v = v.over(nullptr),
                                    .key_heads = how.key_heads,
                                    .value_heads = how.value_heads,
                                    .key_dim = how.key_dim,
                                    .value_dim = how.value_dim,
                                    .decay_each = decay.ndim() == 4,
                                    .correct = how.correct,
                                    .normalize = how.normalize},
                           .skip = how.skip.has_value()};
  return stateful_step(q.x, how.value_heads * how.value_dim, std::move(inputs), std::move(step), runs,
                       {how.value_heads, how.value_dim, how.key_dim});
}

mx::array selective_scan(const mx::array& x, const mx::array& dt, const Columns& b, const Columns& c,
                         const mx::array& rate, const mx::array& skip, const StateRuns& runs) {
  if (backend() == Backend::mlx) return mlx_selective_scan(x, dt, b, c, rate, skip, runs);
  const int channels = rate.shape(0), size = rate.shape(1);
  SelectiveScan step{.args = {.x = Columns(x).over(nullptr),
                              .dt = Columns(dt).over(nullptr),
                              .b = b.over(nullptr),
                              .c = c.over(nullptr),
                              .channels = channels,
                              .size = size}};
  Arrays inputs{plain(x), plain(dt), plain(b.x), plain(c.x), as_float32(rate), as_float32(skip)};
  return stateful_step(x, channels, std::move(inputs), std::move(step), runs, {channels, size});
}

mx::array gated_rms_norm(const mx::array& x, const Columns& gate, const mx::array& weight, float eps, int size,
                         bool gate_first) {
  if (backend() == Backend::mlx) return mlx_gated_rms_norm(x, gate, weight, eps, size, gate_first);
  const bool shared = int(weight.size()) != gate.count;
  return cpu_step(
      x.shape(), {plain(x), plain(gate.x), as_float32(weight)},
      GatedRMSNorm{{.gate = gate.over(nullptr), .size = size, .shared = shared, .gate_first = gate_first, .eps = eps}});
}

}  // namespace mlx_lm::ops
