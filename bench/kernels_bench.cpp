// Speed of the CPU kernels on the shapes of SmolLM2-135M, beside the memory bandwidth that bounds them.
// bytes_per_second counts each weight once; GOP/s counts a multiplication and an addition as two.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <mlx/mlx.h>

#include "mlx_lm/base/thread_pool.h"
#include "mlx_lm/kernels/experts.h"
#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/ops.h"

namespace {

using namespace mlx_lm;
using kernels::Type;

constexpr int kLayers = 30, kHidden = 576, kKv = 192, kFfn = 1536, kVocabulary = 49152;

std::vector<float> random_numbers(size_t n) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (auto& value : values) value = normal(engine);
  return values;
}

std::shared_ptr<const kernels::PackedMatrix> packed(int rows, int cols, int bits, int group, Type type = Type::f16) {
  std::mt19937 engine(1);
  std::vector<uint32_t> words(static_cast<size_t>(rows) * cols * bits / 32);
  for (auto& word : words) word = engine();
  const size_t numbers = static_cast<size_t>(rows) * cols / group;
  const std::vector<uint16_t> halves(numbers, 0x2000);  // small in float16 and in bfloat16
  const std::vector<float> floats(type == Type::f32 ? numbers : 0, 0.01f);
  const void* data = type == Type::f32 ? static_cast<const void*>(floats.data()) : halves.data();
  return kernels::pack({rows, cols, bits, group, words.data(), data, data, type});
}

std::shared_ptr<const kernels::PackedMatrix> packed(kernels::Format format, int rows, int cols) {
  std::mt19937 engine(1);
  std::vector<uint32_t> words(static_cast<size_t>(rows) * cols / (format == kernels::Format::mxfp8 ? 4 : 8));
  for (auto& word : words) word = engine() & 0xbfbfbfbf;  // every e4m3 a number
  const std::vector<uint8_t> scales(static_cast<size_t>(rows) * cols / 16, 0x70);
  return kernels::pack({.format = format, .rows = rows, .cols = cols, .weight = words.data(), .scales = scales.data()});
}

void count(benchmark::State& state, double bytes, double multiplications) {
  const double runs = static_cast<double>(state.iterations());
  state.SetBytesProcessed(static_cast<int64_t>(bytes * runs));
  state.counters["GOP/s"] = benchmark::Counter(2e-9 * multiplications * runs, benchmark::Counter::kIsRate);
}

// The ceiling of every product with one row: all threads add up 256 MiB of numbers.
void read_bandwidth(benchmark::State& state) {
  const size_t size = size_t{32} << 20, piece = size / 256;
  const std::vector<uint64_t> data(size, 1);
  for (auto _ : state) {
    std::vector<uint64_t> sums(256);
    mlx_lm::ThreadPool::global().run(256, [&](int i) {
      uint64_t sum[8] = {};
      for (size_t k = i * piece; k < (i + 1) * piece; k += 8) {
        for (int j = 0; j < 8; ++j) sum[j] += data[k + j];
      }
      sums[i] = std::accumulate(sum, sum + 8, uint64_t{0});
    });
    benchmark::DoNotOptimize(sums.data());
  }
  count(state, size * 8., 0);
}
BENCHMARK(read_bandwidth)->UseRealTime();

// What waking the pool for nothing costs.
void empty_job(benchmark::State& state) {
  for (auto _ : state) mlx_lm::ThreadPool::global().run(8, [](int) {});
}
BENCHMARK(empty_job)->UseRealTime();

// Arguments: rows, cols, n, bits, group.
void packed_product(benchmark::State& state) {
  const int rows = state.range(0), cols = state.range(1), n = state.range(2);
  const auto matrix = packed(rows, cols, state.range(3), state.range(4));
  const auto x = random_numbers(static_cast<size_t>(n) * cols);
  std::vector<float> y(static_cast<size_t>(n) * rows);
  for (auto _ : state) matrix->matmul(x.data(), n, y.data());
  count(state, matrix->nbytes(), 1. * n * rows * cols);
}
BENCHMARK(packed_product)
    ->ArgNames({"rows", "cols", "n", "bits", "group"})
    ->ArgsProduct({{kHidden}, {kHidden}, {1, 512}, {4}, {32}})
    ->ArgsProduct({{kKv}, {kHidden}, {1, 512}, {4}, {32}})
    ->ArgsProduct({{kFfn}, {kHidden}, {1, 2, 3, 4, 8, 16, 512}, {4}, {32}})
    ->ArgsProduct({{kHidden}, {kFfn}, {1, 512}, {4}, {32}})
    ->ArgsProduct({{kFfn}, {kHidden}, {512}, {2, 3, 4, 5, 6, 8}, {64}})
    ->ArgsProduct({{kVocabulary}, {kHidden}, {1}, {4, 5, 6, 8}, {32, 64}})
    ->UseRealTime();

// Arguments: rows, cols, n, format, bits of the activations.
void floats_product(benchmark::State& state) {
  const int rows = state.range(0), cols = state.range(1), n = state.range(2);
  const auto format = static_cast<kernels::Format>(state.range(3));
  kernels::set_activations(state.range(4) == 8 ? kernels::Activations::int8 : kernels::Activations::int16);
  const auto matrix = packed(format, rows, cols);
  const auto x = random_numbers(static_cast<size_t>(n) * cols);
  std::vector<float> y(static_cast<size_t>(n) * rows);
  for (auto _ : state) matrix->matmul(x.data(), n, y.data());
  count(state, matrix->nbytes(), 1. * n * rows * cols);
  kernels::set_activations(kernels::Activations::int16);
  state.SetLabel(format == kernels::Format::mxfp4 ? "mxfp4" : format == kernels::Format::mxfp8 ? "mxfp8" : "nvfp4");
}
BENCHMARK(floats_product)
    ->ArgNames({"rows", "cols", "n", "format", "bits"})
    ->ArgsProduct({{kVocabulary}, {kHidden}, {1, 4}, {1, 2, 3}, {16}})
    ->ArgsProduct({{kFfn}, {kHidden}, {512}, {1, 2, 3}, {8, 16}})
    ->UseRealTime();

// All products of a SmolLM2-135M in 4 bits: for n = 1 those of a token with the vocabulary's, for more those of a
// prompt, of which only the last row goes on to the vocabulary. tokens/s leaves out everything else.
void model_products(benchmark::State& state) {
  const int n = state.range(0);
  const auto bits = state.range(1);
  kernels::set_activations(bits == 8    ? kernels::Activations::int8
                           : bits == 16 ? kernels::Activations::int16
                                        : kernels::Activations::float32);
  std::vector<std::shared_ptr<const kernels::PackedMatrix>> matrices;
  std::vector<int> rows, cols;
  double bytes = 0, multiplications = 0;
  const auto add = [&](int r, int c, int times) {
    rows.push_back(r), cols.push_back(c);
    matrices.push_back(packed(r, c, 4, 32));
    bytes += matrices.back()->nbytes(), multiplications += 1. * times * r * c;
  };
  for (int layer = 0; layer < kLayers; ++layer) {
    add(kHidden, kHidden, n), add(kKv, kHidden, n), add(kKv, kHidden, n), add(kHidden, kHidden, n);
    add(kFfn, kHidden, n), add(kFfn, kHidden, n), add(kHidden, kFfn, n);
  }
  add(kVocabulary, kHidden, 1);
  const auto x = random_numbers(static_cast<size_t>(n) * kFfn);
  std::vector<float> y(std::max<size_t>(kVocabulary, static_cast<size_t>(n) * kFfn));
  for (auto _ : state) {
    for (size_t i = 0; i < matrices.size(); ++i) {
      matrices[i]->matmul(x.data(), i + 1 < matrices.size() ? n : 1, y.data());
    }
  }
  count(state, bytes, multiplications);
  state.counters["tokens/s"] = benchmark::Counter(1. * n * state.iterations(), benchmark::Counter::kIsRate);
  kernels::set_activations(kernels::Activations::int16);
}
BENCHMARK(model_products)->ArgNames({"n", "bits"})->ArgsProduct({{1, 512}, {8, 16, 32}})->UseRealTime();

// A layer of 64 experts of which every row of x goes to 8, in the shape of OLMoE's. GB/s of the experts in use.
// Arguments: rows, cols, n, format.
void expert_products(benchmark::State& state) {
  constexpr int kExperts = 64, kActive = 8;
  const int rows = state.range(0), cols = state.range(1), n = state.range(2);
  const auto format = static_cast<kernels::Format>(state.range(3));
  std::vector<std::shared_ptr<const kernels::PackedMatrix>> experts;
  for (int e = 0; e < kExperts; ++e) {
    experts.push_back(format == kernels::Format::affine ? packed(rows, cols, 4, 64) : packed(format, rows, cols));
  }
  // Other experts at each run, as another token has them.
  constexpr int kRuns = 16;
  std::mt19937 engine(1);
  std::vector<std::vector<int32_t>> ids(kRuns);
  double used = 0;
  for (auto& run : ids) {
    std::vector<int32_t> all(kExperts);
    std::iota(all.begin(), all.end(), 0);
    std::vector<bool> seen(kExperts);
    for (int i = 0; i < n; ++i) {
      std::shuffle(all.begin(), all.end(), engine);
      run.insert(run.end(), all.begin(), all.begin() + kActive);
      for (int k = 0; k < kActive; ++k) seen[all[k]] = true;
    }
    used += 1. * std::count(seen.begin(), seen.end(), true) / kRuns;
  }
  const auto x = random_numbers(static_cast<size_t>(n) * cols);
  std::vector<float> y(static_cast<size_t>(n) * kActive * rows);
  int i = 0;
  for (auto _ : state) {
    kernels::expert_matmul({.packed = experts}, x.data(), {ids[i++ % kRuns].data(), n * kActive, kActive}, y.data());
  }
  count(state, used * experts[0]->nbytes(), 1. * n * kActive * rows * cols);
}
BENCHMARK(expert_products)
    ->ArgNames({"rows", "cols", "n", "format"})
    ->ArgsProduct({{1024}, {2048}, {1, 4, 16, 512}, {0, 1, 2, 3}})
    ->UseRealTime();

// Arguments: rows, cols, n, type.
void dense_product(benchmark::State& state) {
  const int rows = state.range(0), cols = state.range(1), n = state.range(2);
  const Type type = static_cast<Type>(state.range(3));
  const size_t size = static_cast<size_t>(rows) * cols;
  const std::vector<char> weights(size * size_of(type));
  const auto x = random_numbers(static_cast<size_t>(n) * cols);
  std::vector<float> y(static_cast<size_t>(n) * rows);
  for (auto _ : state) kernels::matmul(x.data(), n, {rows, cols, type, weights.data()}, y.data());
  count(state, 1. * weights.size(), 1. * n * rows * cols);
}
BENCHMARK(dense_product)
    ->ArgNames({"rows", "cols", "n", "type"})
    ->ArgsProduct({{kFfn}, {kHidden}, {1, 3, 4, 16, 512}, {0, 1, 2}})
    ->ArgsProduct({{kVocabulary}, {kHidden}, {1}, {0, 1, 2}})
    ->UseRealTime();

// Arguments: queries, keys, layers. With the caches of 30 layers in turns, keys and values come from memory.
void attention(benchmark::State& state) {
  const int queries = state.range(0), length = state.range(1);
  kernels::AttentionArgs args{.queries = queries,
                              .heads = 9,
                              .kv_heads = 3,
                              .head_dim = 64,
                              .capacity = length,
                              .length = length,
                              .start = length - queries,
                              .scale = 0.125f,
                              .type = Type::f16};
  const std::vector<std::vector<uint16_t>> caches(2 * state.range(2),
                                                  std::vector<uint16_t>(3 * 64 * static_cast<size_t>(length), 0x2000));
  size_t layer = 0;
  const auto q = random_numbers(static_cast<size_t>(queries) * 9 * 64);
  std::vector<float> out(q.size());
  for (auto _ : state) {
    args.q = q.data(), args.keys = caches[layer].data(), args.values = caches[layer + 1].data(), args.out = out.data();
    kernels::attention({&args, 1});
    layer = (layer + 2) % caches.size();
  }
  const double seen = queries * (length - (queries - 1) / 2.);
  count(state, 2. * 2 * caches[0].size(), 2 * seen * 9 * 64);
}
BENCHMARK(attention)
    ->ArgNames({"queries", "keys", "layers"})
    ->ArgsProduct({{1}, {64, 512, 4096}, {1, 30}})
    ->ArgsProduct({{4, 512}, {512, 4096}, {1}})
    ->UseRealTime();

void small_steps(benchmark::State& state) {
  const int n = state.range(0);
  auto x = random_numbers(static_cast<size_t>(n) * kFfn);
  auto y = x;
  std::vector<float> rates(32, 0.01f);
  for (auto _ : state) {
    switch (state.range(1)) {
      case 0:
        kernels::rms_norm(x.data(), x.data(), n, kHidden, 1e-5f, y.data());
        break;
      case 1:
        kernels::swiglu(x.data(), x.data(), x.size(), y.data());
        break;
      default:
        kernels::rope(x.data(), {.length = n, .heads = 9, .head_dim = 64, .dims = 64, .rates = rates.data()}, y.data());
    }
  }
  state.SetLabel(state.range(1) == 0 ? "rms_norm" : state.range(1) == 1 ? "swiglu" : "rope");
}
BENCHMARK(small_steps)->ArgNames({"n", "step"})->ArgsProduct({{1, 512}, {0, 1, 2}})->UseRealTime();

// Of a row of logits. Arguments: size, and who: 0 the kernel, 1 its step in MLX's graph, 2 MLX's own step.
void argmax(benchmark::State& state) {
  namespace mx = mlx::core;
  const int size = state.range(0);
  const auto x = random_numbers(size);
  const mx::array logits(x.data(), {1, size}, mx::float32);
  mx::set_default_device(mx::Device::cpu);
  for (auto _ : state) {
    uint32_t place;
    if (state.range(1) == 0) {
      kernels::argmax(x.data(), 1, size, &place);
    } else {
      place = (state.range(1) == 1 ? ops::argmax(logits) : mx::argmax(logits, -1)).item<uint32_t>();
    }
    benchmark::DoNotOptimize(place);
  }
  count(state, 4. * size, 0);
}
BENCHMARK(argmax)->ArgNames({"size", "who"})->ArgsProduct({{kVocabulary, 256000}, {0, 1, 2}})->UseRealTime();

// Arguments: size, k.
void top_k(benchmark::State& state) {
  const int size = state.range(0), k = state.range(1);
  const auto x = random_numbers(size);
  std::vector<float> values(k);
  std::vector<uint32_t> places(k);
  for (auto _ : state) kernels::top_k(x.data(), 1, size, k, values.data(), places.data());
  count(state, 4. * size, 0);
}
BENCHMARK(top_k)->ArgNames({"size", "k"})->ArgsProduct({{kVocabulary, 256000}, {1, 40, 1000}})->UseRealTime();

void more_small_steps(benchmark::State& state) {
  const int n = state.range(0);
  const auto x = random_numbers(static_cast<size_t>(n) * kFfn);
  auto y = x;
  for (auto _ : state) {
    switch (state.range(1)) {
      case 0:
        kernels::layer_norm(x.data(), x.data(), x.data(), n, kHidden, 1e-5f, y.data());
        break;
      case 1:
        kernels::geglu(x.data(), x.data(), x.size(), kernels::Gelu::tanh, y.data());
        break;
      default:
        kernels::geglu(x.data(), x.data(), x.size(), kernels::Gelu::erf, y.data());
    }
  }
  state.SetLabel(state.range(1) == 0 ? "layer_norm" : state.range(1) == 1 ? "geglu, tanh" : "geglu, erf");
}
BENCHMARK(more_small_steps)->ArgNames({"n", "step"})->ArgsProduct({{1, 512}, {0, 1, 2}})->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
