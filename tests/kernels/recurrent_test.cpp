#include "mlx_lm/kernels/recurrent.h"

#include <algorithm>

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::max(x, 0.) + std::log1p(std::exp(-std::fabs(x))); }

// A matrix and some of its columns, in pieces with gaps between them.
struct Wide {
  Wide(size_t rows, int count, int piece, int seed, float spread = 1) {
    const int apart = piece + 3, width = (count + piece - 1) / piece * apart + 2;
    numbers = random_numbers(rows * width, seed, spread);
    columns = {numbers.data(), static_cast<size_t>(width), 1, count, piece, apart};
  }
  double operator()(size_t row, int column) const { return *columns.at(row, column); }

  std::vector<float> numbers;
  Columns columns;
};

// Steps of two texts: the tokens of each, cut so.
using Cut = std::vector<std::array<int, 2>>;
const Cut kCuts[] = {{{23, 9}}, {{7, 1}, {1, 3}, {15, 5}}, {{1, 0}, {0, 1}, {3, 2}, {1, 1}, {18, 5}}};

// Runs step(texts) over such a cut. Texts lie one after the other in every matrix: rows [0, 23) and [23, 32).
template <class Step>
std::vector<std::vector<float>> states_after(const Cut& cut, size_t state_size, Step step) {
  std::vector<std::vector<float>> states(2);
  size_t at[] = {0, 23};
  for (const auto& tokens : cut) {
    std::vector<std::vector<float>> next(2, std::vector<float>(state_size, -7.f));
    std::vector<Sequence> texts;
    for (int i : {0, 1}) {
      if (tokens[i] == 0) continue;
      texts.push_back({at[i], tokens[i], states[i].empty() ? nullptr : states[i].data(), next[i].data()});
      at[i] += tokens[i];
    }
    step(texts);
    for (int i : {0, 1}) {
      if (tokens[i] > 0) states[i] = next[i];
    }
  }
  return states;
}

constexpr size_t kRows = 32;
constexpr size_t kBegin[] = {0, 23, 32};

TEST(Recurrent, convolution) {
  for (const auto& [channels, piece, taps] : {std::tuple(5, 5, 4), {700, 300, 3}, {40, 8, 2}, {17, 17, 1}}) {
    for (int options = 0; options < 8; ++options) {
      const bool gated = options & 1, silu = options & 2 && !gated, biased = options & 4;
      const int half = channels / piece / 2 * piece;  // of two matrices
      const Wide one(kRows, half, piece, 1), two(kRows, channels - half, piece, 2), in(kRows, channels, channels, 3),
          out_gate(kRows, channels, channels, 4);
      const auto weight = random_numbers(static_cast<size_t>(taps) * channels, 5), bias = random_numbers(channels, 6);
      std::vector<double> expected, kept;
      const auto input = [&](size_t text, int row, int c) {
        if (row < static_cast<int>(kBegin[text])) return 0.;
        return (c < half ? one(row, c) : two(row, c - half)) * (gated ? in(row, c) : 1);
      };
      for (size_t text : {0, 1}) {
        for (int row = kBegin[text]; row < static_cast<int>(kBegin[text + 1]); ++row) {
          for (int c = 0; c < channels; ++c) {
            double y = biased ? bias[c] : 0;
            for (int k = 0; k < taps; ++k) y += weight[k * channels + c] * input(text, row - (taps - 1) + k, c);
            expected.push_back(silu ? y * sigmoid(y) : gated ? y * out_gate(row, c) : y);
          }
        }
        for (int j = 1; j < taps; ++j) {
          for (int c = 0; c < channels; ++c) kept.push_back(input(text, int(kBegin[text + 1]) - taps + j, c));
        }
      }
      std::vector<Columns> x{two.columns};
      if (half > 0) x.insert(x.begin(), one.columns);
      under_every_set([&] {
        for (const auto& cut : kCuts) {
          std::vector<float> out(kRows * channels);
          const ConvolutionArgs args{.x = x,
                                     .gate_in = gated ? &in.columns : nullptr,
                                     .gate_out = gated ? &out_gate.columns : nullptr,
                                     .weight = weight.data(),
                                     .bias = biased ? bias.data() : nullptr,
                                     .taps = taps,
                                     .channels = channels,
                                     .silu = silu,
                                     .out = out.data()};
          const auto states = states_after(cut, static_cast<size_t>(taps - 1) * channels,
                                           [&](std::span<const Sequence> texts) { convolution(args, texts); });
          expect_near(out, expected, 2e-5);
          auto all = states[0];
          all.insert(all.end(), states[1].begin(), states[1].end());
          expect_near(all, kept, 1e-6);
        }
      });
    }
  }
}

TEST(Recurrent, decays) {
  for (const auto& [heads, shared] : {std::pair(6, 1), {33, 1}, {3, 16}}) {
    const int n = heads * shared;
    const Wide a(kRows, n, n % 3 ? n : 3, 1, 10), b(kRows, heads, heads, 2, 3);
    auto rate = random_numbers(heads, 3);
    for (float& r : rate) r = std::exp(r);
    const auto bias = random_numbers(n, 4);
    for (bool with_b : {false, true}) {
      const float low = with_b ? 0.f : 0.05f, high = with_b ? INFINITY : 3.f;
      std::vector<double> decay_wanted, write_wanted;
      for (size_t row = 0; row < kRows; ++row) {
        for (int i = 0; i < n; ++i) {
          const double step = std::clamp<double>(softplus(a(row, i) + bias[i]), low, high);
          decay_wanted.push_back(std::exp(-rate[i / shared] * step));
          if (!with_b && shared == 1) write_wanted.push_back(step);
        }
        for (int h = 0; with_b && h < heads; ++h) write_wanted.push_back(sigmoid(b(row, h)));
      }
      under_every_set([&] {
        std::vector<float> decay(kRows * n), write(kRows * heads);
        decays({.a = a.columns,
                .b = with_b ? &b.columns : nullptr,
                .rate = rate.data(),
                .bias = bias.data(),
                .shared = shared,
                .low = low,
                .high = high,
                .rows = kRows,
                .decay = decay.data(),
                .write = write.data()});
        expect_near(decay, decay_wanted, 2e-6);
        if (with_b || shared == 1) expect_near(write, write_wanted, 3e-6);
      });
    }
  }
}

TEST(Recurrent, linear_attention) {
  struct Shape {
    int key_heads, value_heads, key_dim, value_dim;
  };
  for (const Shape& s : {Shape{2, 4, 16, 16}, {1, 3, 5, 7}, {2, 2, 40, 33}, {1, 2, 128, 20}}) {
    for (int options = 0; options < 16; ++options) {
      const bool correct = options & 1, each = options & 2, normalize = options & 4, skips = options & 8;
      const Wide q(kRows, s.key_heads * s.key_dim, s.key_dim, 1), k(kRows, s.key_heads * s.key_dim, s.key_dim, 2),
          v(kRows, s.value_heads * s.value_dim, s.value_dim, 3);
      const int per_head = each ? s.key_dim : 1;
      auto decay = random_numbers(kRows * s.value_heads * per_head, 4),
           write = random_numbers(kRows * s.value_heads, 5);
      for (float& x : decay) x = static_cast<float>(sigmoid(x));
      for (float& x : write) x = static_cast<float>(sigmoid(x)) / static_cast<float>(s.key_dim);
      const auto skip = random_numbers(s.value_heads, 6);

      std::vector<double> expected(kRows * s.value_heads * s.value_dim), left;
      for (int text : {0, 1}) {
        for (int h = 0; h < s.value_heads; ++h) {
          const int key_head = h / (s.value_heads / s.key_heads) * s.key_dim;
          std::vector<double> state(static_cast<size_t>(s.value_dim) * s.key_dim);
          for (size_t row = kBegin[text]; row < kBegin[text + 1]; ++row) {
            double q_size = 1, k_size = 1;
            if (normalize) {
              q_size = k_size = 1e-6;
              for (int i = 0; i < s.key_dim; ++i) {
                q_size += q(row, key_head + i) * q(row, key_head + i);
                k_size += k(row, key_head + i) * k(row, key_head + i);
              }
              q_size = std::sqrt(q_size * s.key_dim), k_size = std::sqrt(k_size);
            }
            const size_t at = row * s.value_heads + h;
            for (int r = 0; r < s.value_dim; ++r) {
              double* of = &state[static_cast<size_t>(r) * s.key_dim];
              double found = 0, y = 0;
              for (int i = 0; i < s.key_dim; ++i) {
                of[i] *= decay[at * per_head + (each ? i : 0)];
                found += of[i] * k(row, key_head + i) / k_size;
              }
              const double value = v(row, h * s.value_dim + r);
              const double u = write[at] * (correct ? value - found : value);
              for (int i = 0; i < s.key_dim; ++i) {
                of[i] += u * k(row, key_head + i) / k_size;
                y += of[i] * q(row, key_head + i) / q_size;
              }
              expected[at * s.value_dim + r] = y + (skips ? skip[h] * value : 0);
            }
          }
          left.insert(left.end(), state.begin(), state.end());
        }
      }
      under_every_set([&] {
        for (const auto& cut : kCuts) {
          std::vector<float> out(expected.size());
          const LinearAttentionArgs args{.q = q.columns,
                                         .k = k.columns,
                                         .v = v.columns,
                                         .key_heads = s.key_heads,
                                         .value_heads = s.value_heads,
                                         .key_dim = s.key_dim,
                                         .value_dim = s.value_dim,
                                         .decay = decay.data(),
                                         .decay_each = each,
                                         .write = write.data(),
                                         .skip = skips ? skip.data() : nullptr,
                                         .correct = correct,
                                         .normalize = normalize ? 1e-6f : 0.f,
                                         .out = out.data()};
          auto states = states_after(cut, static_cast<size_t>(s.value_heads) * s.value_dim * s.key_dim,
                                     [&](std::span<const Sequence> texts) { linear_attention(args, texts); });
          expect_near(out, expected, 2e-5);
          states[0].insert(states[0].end(), states[1].begin(), states[1].end());
          expect_near(states[0], left, 1e-5);
        }
      });
    }
  }
}

TEST(Recurrent, selective_scan) {
  for (const auto& [channels, size] : {std::pair(7, 16), {130, 16}, {5, 3}, {66, 20}}) {
    const Wide x(kRows, channels, channels, 1), dt(kRows, channels, channels, 2, 3), b(kRows, size, size, 3),
        c(kRows, size, size, 4);
    auto rate = random_numbers(static_cast<size_t>(channels) * size, 5);
    for (float& r : rate) r = std::exp(r);
    const auto skip = random_numbers(channels, 6);
    std::vector<double> expected(kRows * channels), left;
    for (int text : {0, 1}) {
      for (int i = 0; i < channels; ++i) {
        std::vector<double> state(size);
        for (size_t row = kBegin[text]; row < kBegin[text + 1]; ++row) {
          const double step = softplus(dt(row, i));
          double y = skip[i] * x(row, i);
          for (int n = 0; n < size; ++n) {
            state[n] = state[n] * std::exp(-rate[i * size + n] * step) + step * x(row, i) * b(row, n);
            y += state[n] * c(row, n);
          }
          expected[row * channels + i] = y;
        }
        left.insert(left.end(), state.begin(), state.end());
      }
    }
    under_every_set([&] {
      for (const auto& cut : kCuts) {
        std::vector<float> out(expected.size());
        const SelectiveScanArgs args{.x = x.columns,
                                     .dt = dt.columns,
                                     .b = b.columns,
                                     .c = c.columns,
                                     .rate = rate.data(),
                                     .skip = skip.data(),
                                     .channels = channels,
                                     .size = size,
                                     .out = out.data()};
        auto states = states_after(cut, static_cast<size_t>(channels) * size,
                                   [&](std::span<const Sequence> texts) { selective_scan(args, texts); });
        expect_near(out, expected, 1e-4);
        states[0].insert(states[0].end(), states[1].begin(), states[1].end());
        expect_near(states[0], left, 3e-5);
      }
    });
  }
}

TEST(Recurrent, gated_norm) {
  for (const auto& [groups, size] : {std::pair(1, 40), {3, 17}, {40, 16}}) {
    const int n = groups * size;
    const auto x = random_numbers(kRows * n, 1), weight = random_numbers(n, 2);
    const Wide gate(kRows, n, size, 3, 3);
    for (int options = 0; options < 4; ++options) {
      const bool shared = options & 1, first = options & 2;
      std::vector<double> expected;
      for (size_t row = 0; row < kRows; ++row) {
        for (int group = 0; group < groups; ++group) {
          std::vector<double> value(size), silu(size);
          double squares = 0;
          for (int i = 0; i < size; ++i) {
            const double z = gate(row, group * size + i);
            silu[i] = z * sigmoid(z);
            value[i] = x[row * n + group * size + i] * (first ? silu[i] : 1);
            squares += value[i] * value[i];
          }
          for (int i = 0; i < size; ++i) {
            expected.push_back(value[i] / std::sqrt(squares / size + 1e-5) * weight[shared ? i : group * size + i] *
                               (first ? 1 : silu[i]));
          }
        }
      }
      under_every_set([&] {
        std::vector<float> out(x.size());
        gated_norm({x.data(), gate.columns, weight.data(), size, shared, first, 1e-5f, kRows, out.data()});
        expect_near(out, expected, 3e-5);
      });
    }
  }
}

TEST(Recurrent, sigmoid_gate_and_columns) {
  for (const auto& [n, piece] : {std::pair(1, 1), {50, 50}, {64, 16}, {1000, 10}}) {
    const auto x = random_numbers(kRows * n, 1);
    Wide gate(kRows, n, piece, 2, 5);
    const float extremes[] = {-1000, 1000, -90, 90, 0};
    std::copy_n(extremes, 5, gate.numbers.begin() + 1);
    std::vector<double> expected, taken;
    for (size_t row = 0; row < kRows; ++row) {
      for (int i = 0; i < n; ++i) {
        expected.push_back(x[row * n + i] * sigmoid(gate(row, i)));
        taken.push_back(gate(row, i));
      }
    }
    under_every_set([&] {
      std::vector<float> out(x.size());
      sigmoid_gate(x.data(), gate.columns, kRows, out.data());
      expect_near(out, expected, 2e-6);
      take_columns(gate.columns, kRows, out.data());
      expect_near(out, taken, 0);
    });
  }
}

TEST(Recurrent, same_for_any_threads) {
  const int heads = 8, dim = 64;
  const auto qkv = random_numbers(kRows * 3 * heads * dim, 1), gates = random_numbers(kRows * heads, 2, 0.1f);
  const auto part = [&](int i) {
    return Columns{qkv.data(), 3u * heads * dim, i * heads * dim, heads * dim, heads * dim, 0};
  };
  expect_same_for_any_threads([&] {
    std::vector<float> out(kRows * heads * dim), after(static_cast<size_t>(heads) * dim * dim);
    const LinearAttentionArgs args{.q = part(0),
                                   .k = part(1),
                                   .v = part(2),
                                   .key_heads = heads,
                                   .value_heads = heads,
                                   .key_dim = dim,
                                   .value_dim = dim,
                                   .decay = gates.data(),
                                   .write = gates.data(),
                                   .correct = true,
                                   .normalize = 1e-6f,
                                   .out = out.data()};
    const Sequence text{0, kRows, nullptr, after.data()};
    linear_attention(args, {&text, 1});
    out.insert(out.end(), after.begin(), after.end());
    return out;
  });
}

}  // namespace
}  // namespace mlx_lm::kernels
