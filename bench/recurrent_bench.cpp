// Speed of the kernels of recurrent layers, beside the memory bandwidth that bounds a step of one token: a state is
// read and written once. Shapes: Qwen3-Next's delta nets (32 value heads, 16 key heads, 128 x 128), Mamba-2 1.3B (64
// heads of 64 x 128), Mamba 1.4B (4096 channels of 16).
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "mlx_lm/kernels/recurrent.h"

namespace {

using namespace mlx_lm;

constexpr int kLayers = 12;  // states of so many are used in turn, so that they come from memory

std::vector<float> random_numbers(size_t n, float least, float most) {
  std::mt19937 engine(1);
  std::uniform_real_distribution<float> uniform(least, most);
  std::vector<float> values(n);
  for (auto& value : values) value = uniform(engine);
  return values;
}

// Runs step(text) in turn over states of so many numbers.
template <class Step>
void run(benchmark::State& state, size_t state_size, Step step) {
  const int tokens = static_cast<int>(state.range(0));
  std::vector<std::vector<float>> states(2 * kLayers, std::vector<float>(state_size));
  int turn = 0;
  for (auto _ : state) {
    const int layer = turn % kLayers, from = turn / kLayers % 2;
    step(kernels::Sequence{0, tokens, states[2 * layer + from].data(), states[2 * layer + 1 - from].data()});
    ++turn;
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(2 * state_size * sizeof(float)));
  state.SetItemsProcessed(state.iterations() * tokens);  // of one layer
}

void linear_attention(benchmark::State& state, int key_heads, int value_heads, int key_dim, int value_dim,
                      bool correct) {
  const size_t tokens = state.range(0);
  const int keys = key_heads * key_dim, values = value_heads * value_dim, width = 2 * keys + values;
  const auto all = random_numbers(tokens * width, -1, 1), gates = random_numbers(tokens * value_heads, 0.5f, 1);
  std::vector<float> out(tokens * values);
  const auto columns = [&](int begin, int count) {
    return kernels::Columns{all.data(), static_cast<size_t>(width), begin, count, count, count};
  };
  const kernels::LinearAttentionArgs args{.q = columns(0, keys),
                                          .k = columns(keys, keys),
                                          .v = columns(2 * keys, values),
                                          .key_heads = key_heads,
                                          .value_heads = value_heads,
                                          .key_dim = key_dim,
                                          .value_dim = value_dim,
                                          .decay = gates.data(),
                                          .write = gates.data(),
                                          .correct = correct,
                                          .normalize = correct ? 1e-6f : 0,
                                          .out = out.data()};
  run(state, static_cast<size_t>(values) * key_dim, [&](const kernels::Sequence& text) {
    kernels::linear_attention(args, {&text, 1});
  });
}

void delta_net(benchmark::State& state) { linear_attention(state, 16, 32, 128, 128, true); }
BENCHMARK(delta_net)->Arg(1)->Arg(16)->Arg(512)->UseRealTime();

void mamba2(benchmark::State& state) { linear_attention(state, 1, 64, 128, 64, false); }
BENCHMARK(mamba2)->Arg(1)->Arg(16)->Arg(512)->UseRealTime();

void mamba(benchmark::State& state) {
  constexpr int kChannels = 4096, kSize = 16;
  const size_t tokens = state.range(0);
  const auto x = random_numbers(tokens * kChannels, -1, 1), b = random_numbers(tokens * kSize, -1, 1);
  const auto rate = random_numbers(kChannels * kSize, 0.1f, 2), skip = random_numbers(kChannels, -1, 1);
  std::vector<float> out(x.size());
  const kernels::Columns channels{x.data(), kChannels, 0, kChannels, kChannels, kChannels};
  const kernels::Columns own{b.data(), kSize, 0, kSize, kSize, kSize};
  const kernels::SelectiveScanArgs args{.x = channels,
                                        .dt = channels,
                                        .b = own,
                                        .c = own,
                                        .rate = rate.data(),
                                        .skip = skip.data(),
                                        .channels = kChannels,
                                        .size = kSize,
                                        .out = out.data()};
  run(state, kChannels * kSize, [&](const kernels::Sequence& text) { kernels::selective_scan(args, {&text, 1}); });
}
BENCHMARK(mamba)->Arg(1)->Arg(16)->Arg(512)->UseRealTime();

void short_convolution(benchmark::State& state) {
  constexpr int kChannels = 8192, kTaps = 4;
  const size_t tokens = state.range(0);
  const auto x = random_numbers(tokens * kChannels, -1, 1), weight = random_numbers(kTaps * kChannels, -1, 1);
  std::vector<float> out(x.size());
  const kernels::Columns channels{x.data(), kChannels, 0, kChannels, kChannels, kChannels};
  const kernels::ConvolutionArgs args{.x = {&channels, 1},
                                      .weight = weight.data(),
                                      .taps = kTaps,
                                      .channels = kChannels,
                                      .silu = true,
                                      .out = out.data()};
  run(state, (kTaps - 1) * kChannels, [&](const kernels::Sequence& text) { kernels::convolution(args, {&text, 1}); });
}
BENCHMARK(short_convolution)->Arg(1)->Arg(512)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
