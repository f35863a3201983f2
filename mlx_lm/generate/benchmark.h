// How fast a model reads prompts and continues them, and how much of the machine that takes.
#pragma once

#include <optional>
#include <vector>

#include "mlx_lm/kernels/machine_limits.h"
#include "mlx_lm/models/architecture.h"

namespace mlx_lm {

struct BenchmarkOptions {
  int prompt_tokens = 512;       // of each row; at least 1
  int generation_tokens = 1024;  // of each row; at least 1; end tokens do not end it
  int batch_size = 1;            // rows that are computed together; at least 1
  int prefill_step_size = 2048;  // prompt tokens of each row computed at a time; at least 1
  // As StepOptions has them.
  int kv_bits = 0, kv_group_size = 64, quantized_kv_start = 0, max_kv_size = 0;

  // Errors: RequestError that names the option.
  void validate() const;
};

// One run, or the mean of several.
struct BenchmarkResult {
  double prompt_tps = 0;        // prompt tokens of all rows per second, until the first token of each was there
  double generation_tps = 0;    // generated tokens of all rows per second since then
  double peak_memory = 0;       // GB (10^9 bytes) at most so far
  double total_time = 0;        // seconds
  double first_token = 0;       // seconds until the first token of each row was there
  double steps_per_second = 0;  // after that; 0 if there were none
  double cache_bytes = 0;       // keys and values that a step read, on average
};

// Random tokens (batch_size, prompt_tokens) of the vocabulary; the same for the same seed, and the same as mlx-lm's.
std::vector<int> random_prompts(int vocab_size, const BenchmarkOptions& options, uint64_t seed = 0);

// Reads the prompts and generates the likeliest tokens, one row by generate_step(), several as one batch.
// prompts: batch_size rows of prompt_tokens. Errors: RequestError for options out of range.
BenchmarkResult run_benchmark(const models::LanguageModel& model, const std::vector<int>& prompts,
                              const BenchmarkOptions& options);

// Errors: RequestError for no results.
BenchmarkResult mean(const std::vector<BenchmarkResult>& results);

// What was used of the machine's limits, from 0 to 1 (or a little above, when the machine was busier while its limits
// were measured).
struct MachineShare {
  double generation = 0;  // of the read bandwidth: matrices once for each step, and the cache
  // Of the peak operations: 2 for each number of the layers' matrices and token of the prompt, at the peaks of the
  // kinds that they are multiplied in.
  double prompt = 0;
};
MachineShare machine_share(const nn::WeightTotals& weights, const BenchmarkResult& result,
                           const kernels::MachineLimits& limits, kernels::Activations activations);

}  // namespace mlx_lm
