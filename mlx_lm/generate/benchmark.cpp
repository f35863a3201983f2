#include "mlx_lm/generate/benchmark.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/generate_step.h"
#include "mlx_lm/generate/steps.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/ops.h"

namespace mlx_lm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

struct Times {
  Clock::time_point start, first, end;  // the first token of each row, the last
};

StepOptions step_options(const BenchmarkOptions& o, cache::KVCaches& caches) {
  return {.max_tokens = o.generation_tokens,
          .kv_bits = o.kv_bits,
          .kv_group_size = o.kv_group_size,
          .quantized_kv_start = o.quantized_kv_start,
          .prefill_step_size = o.prefill_step_size,
          .prompt_cache = &caches};
}

Times run_row(const models::LanguageModel& model, const std::vector<int>& prompt, const BenchmarkOptions& o,
              cache::KVCaches& caches) {
  Times times;
  times.start = Clock::now();
  int made = 0;
  for ([[maybe_unused]] auto& step : generate_step(prompt, model, step_options(o, caches))) {
    if (made++ == 0) times.first = Clock::now();
    if (made == o.generation_tokens) break;
  }
  times.end = Clock::now();
  return times;
}

// The next token of each row, (B, 1), under way. It is waited for before it goes: an array that is dropped while its
// step runs takes the step's memory away.
class NextTokens {
 public:
  NextTokens(const models::LanguageModel& model, const mx::array& tokens, cache::KVCaches& caches, const StepOptions& o)
      : tokens_(likeliest(model(tokens, caches), caches, o)) {
    mx::async_eval(tokens_);
  }
  NextTokens(const NextTokens&) = delete;
  NextTokens& operator=(const NextTokens&) = delete;
  ~NextTokens() {
    try {
      tokens_.wait();
    } catch (...) {
    }
  }
  const mx::array& tokens() const { return tokens_; }
  void wait() { tokens_.wait(); }
  void swap(NextTokens& other) { std::swap(tokens_, other.tokens_); }

 private:
  // (B, 1, V) -> (B, 1)
  static mx::array likeliest(const mx::array& logits, cache::KVCaches& caches, const StepOptions& o) {
    quantize_kv(caches, o);
    auto tokens = ops::argmax(logits);
    join(caches, {&tokens});
    return tokens;
  }

  mx::array tokens_;
};

Times run_batch(const models::LanguageModel& model, const std::vector<int>& prompts, const BenchmarkOptions& o,
                cache::KVCaches& caches) {
  const int rows = o.batch_size, length = o.prompt_tokens;
  const auto step = step_options(o, caches);
  const mx::array all(prompts.begin(), {rows, length}, mx::int32);
  Times times;
  times.start = Clock::now();
  for (int from = 0; from < length - 1;) {
    const int to = std::min(from + o.prefill_step_size, length - 1);
    model(mx::slice(all, {0, from}, {rows, to}), caches);
    quantize_kv(caches, step);
    join(caches);
    eval_state(caches);
    mx::clear_cache();
    from = to;
  }
  NextTokens current(model, mx::slice(all, {0, length - 1}, {rows, length}), caches, step);
  for (int made = 1; made < o.generation_tokens; ++made) {
    NextTokens next(model, current.tokens(), caches, step);  // one step ahead, as generate_step() does
    current.wait();
    if (made == 1) times.first = Clock::now();
    if (made % 256 == 0) mx::clear_cache();
    current.swap(next);
  }
  current.wait();
  times.end = Clock::now();
  if (o.generation_tokens == 1) times.first = times.end;
  return times;
}

}  // namespace

void BenchmarkOptions::validate() const {
  constexpr int kMost = 1 << 24;  // tokens, far above any cache that fits into memory
  const auto check = [&](const char* name, int value) {
    if (value < 1 || value > kMost) {
      fail<RequestError>("[benchmark] {}: expected a number from 1 to {}, found {}", name, kMost, value);
    }
  };
  check("prompt-tokens", prompt_tokens);
  check("generation-tokens", generation_tokens);
  check("batch-size", batch_size);
  check("prefill-step-size", prefill_step_size);
  StepOptions{.max_kv_size = max_kv_size,
              .kv_bits = kv_bits,
              .kv_group_size = kv_group_size,
              .quantized_kv_start = quantized_kv_start}
      .validate();
  if (int64_t(batch_size) * prompt_tokens > kMost) {
    fail<RequestError>("[benchmark] prompt-tokens: expected at most {} in all rows, found {} times {}", kMost,
                       batch_size, prompt_tokens);
  }
}

std::vector<int> random_prompts(int vocab_size, const BenchmarkOptions& o, uint64_t seed) {
  o.validate();
  mx::random::seed(seed);  // not a key of its own: the sequence that follows this seed is mlx-lm's
  auto tokens = mx::random::randint(0, vocab_size, {o.batch_size, o.prompt_tokens});
  tokens.eval();
  return {tokens.data<int>(), tokens.data<int>() + tokens.size()};
}

BenchmarkResult run_benchmark(const models::LanguageModel& model, const std::vector<int>& prompts,
                              const BenchmarkOptions& o) {
  o.validate();
  const size_t wanted = size_t(o.batch_size) * o.prompt_tokens;
  if (prompts.size() != wanted) {
    fail<RequestError>("[benchmark] prompts: expected {} tokens, found {}", wanted, prompts.size());
  }
  auto caches = model.make_cache(o.max_kv_size);
  const auto times = (o.batch_size == 1 ? run_row : run_batch)(model, prompts, o, caches);

  BenchmarkResult r;
  const double reading = seconds(times.first - times.start), writing = seconds(times.end - times.first);
  const double generated = double(o.batch_size) * o.generation_tokens;
  r.prompt_tps = double(wanted) / reading;
  r.generation_tps = generated / std::max(writing, 1e-9);  // the first token counts too, as in mlx-lm
  r.peak_memory = double(ops::peak_memory()) / 1e9;
  r.total_time = seconds(times.end - times.start);
  r.first_token = reading;
  if (o.generation_tokens > 1) r.steps_per_second = (o.generation_tokens - 1) / writing;
  for (const auto& cache : caches) {
    const auto state = cache->state();
    if (state.empty()) continue;
    const double rows = state[0].shape(2), used = o.prompt_tokens + o.generation_tokens / 2.;
    r.cache_bytes += double(cache->nbytes()) * std::min(used / rows, 1.);
  }
  return r;
}

BenchmarkResult mean(const std::vector<BenchmarkResult>& results) {
  if (results.empty()) fail<RequestError>("[benchmark] num-trials: expected at least 1, found 0");
  BenchmarkResult sum;
  for (auto field : {&BenchmarkResult::prompt_tps, &BenchmarkResult::generation_tps, &BenchmarkResult::peak_memory,
                     &BenchmarkResult::total_time, &BenchmarkResult::first_token, &BenchmarkResult::steps_per_second,
                     &BenchmarkResult::cache_bytes}) {
    for (const auto& result : results) sum.*field += result.*field;
    sum.*field /= double(results.size());
  }
  return sum;
}

MachineShare machine_share(const nn::WeightTotals& weights, const BenchmarkResult& r,
                           const kernels::MachineLimits& limits, kernels::Activations activations) {
  const double bytes = weights.bytes_per_step() + r.cache_bytes;
  const double seconds_per_token =
      2 * weights.layers.rounded / limits.operations(activations) + 2 * weights.layers.floating / limits.float32;
  return {.generation = bytes * r.steps_per_second / limits.read, .prompt = seconds_per_token * r.prompt_tps};
}

}  // namespace mlx_lm
