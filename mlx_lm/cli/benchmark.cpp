// mlx_lm benchmark: how fast a model is here. Flags, defaults and lines are mlx_lm.benchmark's; what follows the
// averages is ours.
#include "mlx_lm/generate/benchmark.h"

#include <chrono>
#include <iostream>
#include <thread>

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/commands.h"
#include "mlx_lm/cli/flags.h"
#include "mlx_lm/ops/backend.h"

namespace mlx_lm::cli {
namespace {

using kernels::Activations;
using nlohmann::json;

struct Flags {
  ModelFlags model;
  BenchmarkOptions options;
  CacheFlags cache{.quantized_kv_start = 0};  // what is measured, whatever the length
  int num_trials = 5;
  int delay = 0;  // seconds
  bool json = false;
};

void add_flags(CLI::App& app, Flags& f) {
  add_model_flags(app, f.model);
  const auto number = [&app](const char* name, auto& value, const char* help) {
    add_number(app, name, value, help)->capture_default_str();
  };
  number("-p,--prompt-tokens", f.options.prompt_tokens, "Random tokens to read");
  number("-g,--generation-tokens", f.options.generation_tokens, "Tokens to generate; nothing ends them earlier");
  number("-b,--batch-size", f.options.batch_size, "Prompts that are computed together");
  number("-n,--num-trials", f.num_trials, "Runs that are timed, after one that is not");
  number("--prefill-step-size", f.options.prefill_step_size, "Prompt tokens computed at a time");
  add_cache_flags(app, f.cache);
  number("--delay", f.delay, "Seconds to wait before each run");
  app.add_flag("--json", f.json, "Print one JSON object in place of the lines");
  app.footer(
      "Each run reads random prompts and generates the likeliest tokens after them. A line for each run and one of\n"
      "averages tell tokens per second of all prompts together (prompt_tps, generation_tps), gigabytes of memory at\n"
      "most (peak_memory) and seconds (total_time).\n\n"
      "Then what this machine allows is measured, for half a second and with the same threads: how fast it reads\n"
      "memory, which bounds generation, since each token reads all weights, and how fast it multiplies, which bounds\n"
      "prompts. The last line tells how much of that the averages are. Programs that run beside it disturb all of it.");
}

// What the machine can do and what was used of it; null on a GPU, or by MLX's own operations, where nothing is known.
struct Machine {
  kernels::MachineLimits limits;
  MachineShare share;
};

std::optional<Machine> measure(const models::LanguageModel& model, const BenchmarkResult& averages) {
  if (ops::backend() == ops::Backend::mlx) return std::nullopt;
  // After the runs, whose peak of memory must not know of it.
  const auto limits = kernels::measure_machine_limits();
  return Machine{limits, machine_share(model.totals(), averages, limits, kernels::activations())};
}

const char* name_of(Activations kind) {
  return kind == Activations::int8 ? "int8" : kind == Activations::int16 ? "int16" : "float32";
}

// The kinds of multiplication that the model's layers use.
std::vector<Activations> kinds_of(const models::LanguageModel& model) {
  const auto& layers = model.totals().layers;
  std::vector<Activations> kinds;
  if (layers.rounded > 0) kinds.push_back(kernels::activations());
  if (layers.floating > 0 && (kinds.empty() || kinds[0] != Activations::float32)) kinds.push_back(Activations::float32);
  return kinds;
}

std::string machine_line(const models::LanguageModel& model, const Machine& machine) {
  std::vector<std::string> peaks;
  for (auto kind : kinds_of(model)) {
    peaks.push_back(fmt::format("{} {:.0f} GOP/s", name_of(kind), machine.limits.operations(kind) / 1e9));
  }
  return fmt::format(
      "Machine: read {:.1f} GB/s, {} ({} thread{}, {}). Generation: {:.0f} % of the bandwidth; prompt: {:.0f} % of "
      "peak "
      "operations",
      machine.limits.read / 1e9, fmt::join(peaks, ", "), machine.limits.threads, machine.limits.threads == 1 ? "" : "s",
      kernels::instruction_set(), 100 * machine.share.generation, 100 * machine.share.prompt);
}

json to_json(const BenchmarkResult& r) {
  return {{"prompt_tps", r.prompt_tps},
          {"generation_tps", r.generation_tps},
          {"peak_memory", r.peak_memory},
          {"total_time", r.total_time},
          {"time_to_first_token", r.first_token}};
}

json to_json(const Machine& machine) {
  const auto& limits = machine.limits;
  return {{"threads", limits.threads},
          {"instruction_set", kernels::instruction_set()},
          {"activations", name_of(kernels::activations())},
          {"read_bytes_per_second", limits.read},
          {"operations_per_second", {{"int8", limits.int8}, {"int16", limits.int16}, {"float32", limits.float32}}},
          {"generation_share", machine.share.generation},
          {"prompt_share", machine.share.prompt}};
}

int run(Flags f) {
  f.cache.set(f.options);
  f.options.validate();
  if (f.num_trials < 1) fail<RequestError>("[benchmark] num-trials: expected at least 1, found {}", f.num_trials);
  if (f.delay < 0) fail<RequestError>("[benchmark] delay: expected at least 0, found {}", f.delay);
  set_up(f.model);
  const auto say = [&](const std::string& line) {
    if (!f.json) std::cout << line << std::endl;
    if (!std::cout) fail<Error>("[benchmark] the result could not be written to standard output");
  };

  const auto loaded = load_model(f.model);
  const auto& model = *loaded.model;
  const auto prompts = random_prompts(model.vocab_size(), f.options);
  say("Running warmup..");
  run_benchmark(model, prompts, f.options);
  say(fmt::format("Timing with prompt_tokens={}, generation_tokens={}, batch_size={}.", f.options.prompt_tokens,
                  f.options.generation_tokens, f.options.batch_size));
  std::vector<BenchmarkResult> trials;
  for (int i = 0; i < f.num_trials; ++i) {
    std::this_thread::sleep_for(std::chrono::seconds(f.delay));
    const auto& r = trials.emplace_back(run_benchmark(model, prompts, f.options));
    say(fmt::format("Trial {}:  prompt_tps={:.3f}, generation_tps={:.3f}, peak_memory={:.3f}, total_time={:.3f}", i + 1,
                    r.prompt_tps, r.generation_tps, r.peak_memory, r.total_time));
  }
  const auto averages = mean(trials);
  say(fmt::format("Averages: prompt_tps={:.3f}, generation_tps={:.3f}, peak_memory={:.3f}", averages.prompt_tps,
                  averages.generation_tps, averages.peak_memory));
  say(fmt::format("Time to first token: {:.3f} s", averages.first_token));
  const auto machine = measure(model, averages);
  if (machine) say(machine_line(model, *machine));

  if (f.json) {
    json runs = json::array();
    for (const auto& trial : trials) runs.push_back(to_json(trial));
    const json all = {{"model", name_of(f.model)},
                      {"prompt_tokens", f.options.prompt_tokens},
                      {"generation_tokens", f.options.generation_tokens},
                      {"batch_size", f.options.batch_size},
                      {"prefill_step_size", f.options.prefill_step_size},
                      {"trials", runs},
                      {"averages", to_json(averages)},
                      {"machine", machine ? to_json(*machine) : json(nullptr)}};
    print_json(all, "benchmark");
  }
  return 0;
}

}  // namespace

Command add_benchmark(CLI::App& program) {
  auto flags = std::make_shared<Flags>();
  auto* app = add_command(program, "benchmark", "Measure the speed of a model");
  add_flags(*app, *flags);
  return {app, [flags] { return run(*flags); }};
}

}  // namespace mlx_lm::cli
