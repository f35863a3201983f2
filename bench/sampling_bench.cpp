// Time of choosing a token from one row of logits, penalties and filters included: as steps in MLX's graph, by the
// kernels and by MLX's own operations. "peaked" logits are like a model's, of "flat" ones (normal, spread 1) tens of
// thousands are likely.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <mlx/mlx.h>

#include "mlx_lm/ops/backend.h"
#include "mlx_lm/sample/logits_processors.h"
#include "mlx_lm/sample/sampler.h"

namespace {

using namespace mlx_lm;
namespace mx = mlx::core;
using sample::PenaltyOptions;
using sample::SamplerOptions;

mx::array logits_of(int size, bool peaked) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(0, peaked ? 2.5f : 1.f);
  std::vector<float> x(size);
  for (float& value : x) value = normal(engine);
  // Fifty words that fit: half of the probability is one's, the last has a thousandth.
  for (int i = 0; peaked && i < 50; ++i) x[engine() % size] = 18.f - 7.f * std::min(1.f, std::sqrt(i / 50.f));
  return mx::array(x.begin(), {1, size}, mx::float32);
}

struct Case {
  std::string name;
  SamplerOptions sampler;
  PenaltyOptions penalties = {};
};

std::vector<Case> cases() {
  const PenaltyOptions penalties{.logit_bias = {{3, 1.f}, {77, -2.f}},
                                 .repetition_penalty = 1.1f,
                                 .presence_penalty = 0.1f,
                                 .frequency_penalty = 0.1f};
  const SamplerOptions all{
      .temp = 0.8f, .top_p = 0.9f, .min_p = 0.02f, .top_k = 40, .xtc_probability = 0.5f, .xtc_special_tokens = {1, 2}};
  return {{"greedy", {.temp = 0}},
          {"temp", {.temp = 0.8f}},
          {"top_p", {.temp = 0.8f, .top_p = 0.9f}},
          {"min_p", {.temp = 0.8f, .min_p = 0.05f}},
          {"top_k", {.temp = 0.8f, .top_k = 40}},
          {"xtc", {.temp = 0.8f, .xtc_probability = 1}},
          {"penalties", {.temp = 0}, penalties},
          {"all_filters", all},
          {"everything", all, penalties}};
}

void run(benchmark::State& state, const Case& c, int size, bool peaked, ops::Backend backend) {
  mx::set_default_device(mx::Device::cpu);
  ops::set_backend(backend);
  const auto logits = logits_of(size, peaked);
  mx::eval(logits);
  auto options = c.sampler;
  options.seed = 1;
  const auto sampler = sample::make_sampler(options);
  const auto processors = sample::make_logits_processors(c.penalties);
  std::vector<int> ids(1000);
  for (int i = 0; i < 1000; ++i) ids[i] = i * 7 % 300;
  const auto tokens = mx::array(ids.begin(), {1000}, mx::int32);
  for (auto _ : state) {
    auto x = logits;
    for (const auto& processor : processors) x = processor(tokens, x);
    benchmark::DoNotOptimize(sampler(x).item<uint32_t>());
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const int size : {49152, 256000}) {
    for (const bool peaked : {true, false}) {
      for (const auto& c : cases()) {
        for (const bool kernels : {true, false}) {
          const auto name = "sampling/" + std::to_string(size) + (peaked ? "/peaked/" : "/flat/") + c.name +
                            (kernels ? "/kernels" : "/mlx");
          benchmark::RegisterBenchmark(name.c_str(), run, c, size, peaked,
                                       kernels ? ops::Backend::kernels : ops::Backend::mlx)
              ->Unit(benchmark::kMicrosecond)
              ->MeasureProcessCPUTime()
              ->UseRealTime();
        }
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
