// Recurrent steps by our kernels against MLX's own operations, in steps of any length and for texts end to end.
#include "mlx_lm/ops/recurrent.h"

#include "tests/ops/both_backends.h"

namespace mlx_lm::ops {
namespace {

class Recurrent : public BothBackends {
 protected:
  // `count` columns in pieces, anywhere in a wider array.
  Columns wide(int batch, int length, int count, int piece, float spread = 1) {
    const int apart = piece + between(0, 3), begin = between(0, apart - piece);
    const auto x = random({batch, length, count / piece * apart}) * mx::array(spread);
    return {elsewhere(x, between(0, 2)), begin, count, piece, apart};
  }

  static mx::array rows(const mx::array& x, int begin, int end) {
    mx::Shape start(x.ndim(), 0), stop = x.shape();
    start[1] = begin, stop[1] = end;
    return mx::slice(x, start, stop);
  }
  static Columns rows(const Columns& c, int begin, int end) {
    return {rows(c.x, begin, end), c.begin, c.count, c.piece, c.apart};
  }

  // What f(begin, end, runs) gives for `length` tokens: of one text in each row by MLX at once, by both in steps, and
  // of two texts end to end, and the states that are left.
  template <class F>
  void expect_same_however_cut(int batch, int length, F f, float tolerance, const std::string& what) {
    const auto with_state = [](const mx::array& result, const std::optional<mx::array>& state) {
      return mx::concatenate({mx::flatten(mx::astype(result, mx::float32)), mx::flatten(*state)}, 0);
    };
    const auto at_once = [&] {
      std::optional<mx::array> state;
      const auto result = f(0, length, StateRuns{{length, &state}});
      return with_state(result, state);
    };
    const auto in_steps = [&] {
      std::optional<mx::array> state;
      std::vector<mx::array> parts;
      for (int begin = 0; begin < length;) {
        const int end = std::min(length, begin + between(1, 5));
        parts.push_back(f(begin, end, StateRuns{{end - begin, &state}}));
        begin = end;
      }
      return with_state(mx::concatenate(parts, 1), state);
    };
    const auto wanted = by(Backend::mlx, at_once);
    EXPECT_LT(difference(by(Backend::kernels, at_once), wanted), tolerance) << what;
    EXPECT_LT(difference(by(Backend::kernels, in_steps), wanted), tolerance) << what << ", in steps";
    EXPECT_LT(difference(by(Backend::mlx, in_steps), wanted), tolerance) << what << ", in steps by MLX";
    if (batch > 1 || length < 3) return;
    const int first = between(1, length - 1);
    const auto ends = [&](bool together) {
      std::optional<mx::array> a, b;
      // Both have begun already.
      f(0, 1, StateRuns{{1, &a}});
      std::vector<mx::array> parts;
      if (together) {
        parts = {f(0, length, StateRuns{{first, &a}, {length - first, &b}})};
      } else {
        parts = {f(0, first, StateRuns{{first, &a}}), f(first, length, StateRuns{{length - first, &b}})};
      }
      return mx::concatenate({with_state(mx::concatenate(parts, 1), a), mx::flatten(*b)}, 0);
    };
    for (auto backend : {Backend::kernels, Backend::mlx}) {
      const auto apart = by(backend, [&] { return ends(false); });
      EXPECT_LT(difference(by(backend, [&] { return ends(true); }), apart), 1e-5f) << what << ", end to end";
    }
  }
};

TEST_F(Recurrent, convolution) {
  for (int i = 0; i < 30; ++i) {
    const int batch = i % 3 ? 1 : 2, length = between(1, 9), piece = between(1, 20), taps = between(2, 4);
    const bool gated = i % 2;
    std::vector<Columns> x{wide(batch, length, 3 * piece, piece)};
    if (i % 4 > 1) x.push_back(wide(batch, length, piece, piece));
    const int channels = piece * (i % 4 > 1 ? 4 : 3);
    const Convolution how{random({taps, channels}), i % 5 ? std::optional(random({channels})) : std::nullopt,
                          !gated && i % 3 != 1};
    const ConvolutionGates gates{wide(batch, length, channels, channels), wide(batch, length, channels, channels)};
    expect_same_however_cut(
        batch, length,
        [&](int begin, int end, const StateRuns& runs) {
          std::vector<Columns> parts;
          for (const auto& part : x) parts.push_back(rows(part, begin, end));
          const ConvolutionGates cut{rows(gates.in, begin, end), rows(gates.out, begin, end)};
          return convolution(parts, how, runs, gated ? std::optional(cut) : std::nullopt);
        },
        3e-5f, fmt::format("{} channels, {} taps", channels, taps));
  }
}

TEST_F(Recurrent, decays) {
  for (int i = 0; i < 20; ++i) {
    const int heads = between(1, 20), each = i % 2 ? 1 : between(2, 9);
    const auto a = wide(2, 3, heads * each, heads * each, 4), b = wide(2, 3, heads, heads, 4);
    Decay how{mx::exp(random({heads})), random({heads * each})};
    if (i % 3 == 0 && each == 1) how.low = 0.3f, how.high = 2;
    const auto second = i % 4 && (each > 1 || i % 3) ? std::optional(b) : std::nullopt;
    if (each > 1 && !second) continue;
    expect_same([&] { return decays(a, second, how).first; }, 1e-5f, "decay");
    expect_same([&] { return decays(a, second, how).second; }, 1e-5f, "write");
  }
}

TEST_F(Recurrent, linear_attention) {
  for (int i = 0; i < 40; ++i) {
    const int batch = i % 3 ? 1 : 2, length = i % 10 ? between(1, 12) : 300;
    const int key_heads = between(1, 3), shared = between(1, 3), heads = key_heads * shared;
    const bool each = i % 4 == 3;
    LinearAttention how{.key_heads = key_heads,
                        .value_heads = heads,
                        .key_dim = between(1, 40),
                        .value_dim = between(1, 40),
                        .correct = i % 2 == 1,
                        .normalize = i % 2 ? 1e-6f : 0.f};
    if (i % 5 == 0) how.skip = random({heads});
    const auto q = wide(batch, length, key_heads * how.key_dim, how.key_dim),
               k = wide(batch, length, key_heads * how.key_dim, how.key_dim),
               v = wide(batch, length, heads * how.value_dim, shared * how.value_dim);
    mx::Shape decay_shape{batch, length, heads};
    if (each) decay_shape.push_back(how.key_dim);
    const auto decay = mx::sigmoid(random(decay_shape)), write = mx::sigmoid(random({batch, length, heads}));
    expect_same_however_cut(
        batch, length,
        [&](int begin, int end, const StateRuns& runs) {
          return linear_attention(rows(q, begin, end), rows(k, begin, end), rows(v, begin, end),
                                  rows(decay, begin, end), rows(write, begin, end), how, runs);
        },
        2e-4f, fmt::format("{} heads of {} and {}, {} tokens", heads, how.key_dim, how.value_dim, length));
  }
}

TEST_F(Recurrent, selective_scan) {
  for (int i = 0; i < 20; ++i) {
    const int batch = i % 3 ? 1 : 2, length = between(1, 9), channels = between(1, 200), size = between(1, 20);
    const auto x = random({batch, length, channels}), dt = random({batch, length, channels});
    const auto b = wide(batch, length, size, size), c = wide(batch, length, size, size);
    const auto rate = mx::exp(random({channels, size})), skip = random({channels});
    expect_same_however_cut(
        batch, length,
        [&](int begin, int end, const StateRuns& runs) {
          return selective_scan(rows(x, begin, end), rows(dt, begin, end), rows(b, begin, end), rows(c, begin, end),
                                rate, skip, runs);
        },
        1e-4f, fmt::format("{} channels of {}", channels, size));
  }
}

TEST_F(Recurrent, gated_rms_norm) {
  for (int i = 0; i < 20; ++i) {
    const int groups = between(1, 5), size = between(2, 50);
    const auto x = random({2, 3, groups * size}), weight = random({i % 2 ? size : groups * size});
    const auto gate = wide(2, 3, groups * size, size);
    expect_same([&] { return gated_rms_norm(x, gate, weight, 1e-3f, size, i % 4 > 1); }, 3e-5f, "gated_rms_norm");
  }
}

TEST_F(Recurrent, columns_and_sigmoid_gate) {
  for (int i = 0; i < 20; ++i) {
    const int pieces = between(1, 5), size = between(1, 50);
    const auto gate = wide(2, 3, pieces * size, size, 4);
    const auto x = random({2, 3, pieces * size});
    expect_same([&] { return sigmoid_gate(x, gate); }, 1e-5f, "sigmoid_gate");
    expect_same([&] { return take_columns(gate); }, 1e-9f, "take_columns");
  }
}

}  // namespace
}  // namespace mlx_lm::ops
