// What a prefix cache saves: the beginning of a prompt computed, found in memory, inserted, and read from a file. For
// the default model; MLX_LM_BENCH_MODEL names another.
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>

#include <benchmark/benchmark.h>

#include "mlx_lm/generate/prefix_cache.h"
#include "mlx_lm/generate/steps.h"
#include "mlx_lm/load/load.h"

namespace {

using namespace mlx_lm;
namespace fs = std::filesystem;

const models::LanguageModel& model() {
  static const auto loaded = [] {
    const char* path = std::getenv("MLX_LM_BENCH_MODEL");
    const char* home = std::getenv("HOME");
    return load(path ? path
                     : std::string(home ? home : "") + "/.cache/mlx-lm.cpp/models/SmolLM2-135M-Instruct.Q4_1.gguf");
  }();
  return *loaded.model;
}

std::vector<int> prompt(int n) {
  std::vector<int> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(i * 7919 % model().vocab_size());
  return tokens;
}

cache::KVCaches computed(const std::vector<int>& tokens) {
  auto caches = model().make_cache();
  auto with_next = tokens;
  with_next.push_back(0);  // prefill() leaves the last to be fed
  prefill(with_next, model(), caches, {});
  return caches;
}

void compute(benchmark::State& state) {
  const auto tokens = prompt(int(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(computed(tokens));
}

void find(benchmark::State& state) {
  const auto tokens = prompt(int(state.range(0)));
  PrefixCache held;
  held.insert("key", tokens, computed(tokens));
  auto longer = tokens;
  longer.push_back(1);
  for (auto _ : state) benchmark::DoNotOptimize(held.find("key", longer));
  state.counters["MB"] = double(held.bytes()) / 1e6;
}

void insert(benchmark::State& state) {
  const auto tokens = prompt(int(state.range(0)));
  const auto caches = computed(tokens);
  for (auto _ : state) {
    PrefixCache held;
    held.insert("key", tokens, caches);
  }
}

void find_in_file(benchmark::State& state) {
  std::string dir = (fs::temp_directory_path() / "prefix_bench_XXXXXX").string();
  if (!::mkdtemp(dir.data())) return state.SkipWithError("no temporary folder");
  const auto tokens = prompt(int(state.range(0)));
  const PrefixCacheOptions options{.disk = {.dir = dir}};
  { PrefixCache(options).insert("key", tokens, computed(tokens)); }
  auto longer = tokens;
  longer.push_back(1);
  for (auto _ : state) {
    state.PauseTiming();
    auto held = std::make_unique<PrefixCache>(options);
    state.ResumeTiming();
    if (held->find("key", longer).tokens != int(tokens.size())) state.SkipWithError("not found");
    state.PauseTiming();
    held.reset();
    state.ResumeTiming();
  }
  fs::remove_all(dir);
}

BENCHMARK(compute)->Arg(1500)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(find)->Arg(1500)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(insert)->Arg(1500)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(find_in_file)->Arg(1500)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
