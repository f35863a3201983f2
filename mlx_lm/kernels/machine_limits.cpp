#include "mlx_lm/kernels/machine_limits.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <vector>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"
#include "mlx_lm/kernels/weight_memory.h"

namespace mlx_lm::kernels {
namespace {

template <class F>
double seconds(F&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

uint64_t sum_of(const uint8_t* data, size_t bytes) {
  uint64_t sums[8] = {};
  for (size_t at = 0; at < bytes; at += sizeof sums) {
    __builtin_prefetch(data + at + 1536);  // the distance that is best for the products
    uint64_t numbers[8];
    std::memcpy(numbers, data + at, sizeof numbers);
    for (int i = 0; i < 8; ++i) sums[i] += numbers[i];
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// Others use the machine too, so the samples are short, and the shortest counts: it is the one that they disturbed
// least.
constexpr int kSamples = 24;

double read_bandwidth() {
  constexpr int kParts = 4, kPieces = 256;  // a part is a sample; the next ones push it out of the caches
  constexpr size_t kPiece = size_t{1} << 18, kPart = kPieces * kPiece;
  const auto memory = weight_memory(kParts * kPart);
  // Written first: pages that nobody wrote are all one page of zeros, which a cache holds.
  pool().run(kParts * kPieces, [&](int i) { std::memset(memory.get() + i * kPiece, 1, kPiece); });
  volatile uint64_t sums[kPieces];
  double shortest = 1e9;
  for (int sample = 0; sample < kSamples; ++sample) {
    const uint8_t* part = memory.get() + sample % kParts * kPart;
    shortest = std::min(
        shortest, seconds([&] { pool().run(kPieces, [&](int i) { sums[i] = sum_of(part + i * kPiece, kPiece); }); }));
  }
  return static_cast<double>(kPart) / shortest;
}

// All threads run the loop at once, each with a clock of its own, so that one which must wait for its core does not
// spoil the others' samples.
double peak(double (*loop)(int64_t rounds)) {
  constexpr double kSample = 5e-4;  // seconds: far above the clock's own, and mostly within one slice of the scheduler
  const int threads = pool().size();
  int64_t rounds = 64;
  while (seconds([&] { loop(rounds); }) < kSample) rounds *= 2;
  std::vector<double> rates(threads);
  for (int run = 0; run < 3; ++run) {
    pool().run(threads, [&](int i) {
      for (int sample = 0; sample < kSamples / 3; ++sample) {
        double done = 0;
        const double time = seconds([&] { done = loop(rounds); });
        rates[i] = std::max(rates[i], 2 * done / time);
      }
    });
  }
  return std::accumulate(rates.begin(), rates.end(), 0.);
}

}  // namespace

MachineLimits measure_machine_limits() {
  const Table& t = table();
  MachineLimits limits;
  limits.threads = pool().size();
  limits.read = read_bandwidth();
  limits.int8 = peak(t.peaks.int8);
  limits.int16 = peak(t.peaks.int16);
  limits.float32 = peak(t.peaks.float32);
  return limits;
}

}  // namespace mlx_lm::kernels
