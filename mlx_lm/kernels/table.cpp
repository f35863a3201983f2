#include "mlx_lm/kernels/table.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "mlx_lm/base/error.h"
#if defined(__x86_64__)
#include "mlx_lm/kernels/x86.h"
#endif

namespace mlx_lm::kernels {
namespace {

#if defined(__x86_64__)
constexpr Table kAvx2 = {
    .name = "avx2",
    .small_floats = true,
    .to_float = avx2::to_float,
    .from_float = avx2::from_float,
    .dots = avx2::dots,
    .weighted_sum = avx2::weighted_sum,
    .panel = avx2::panel,
    .panel_product = avx2::panel_product,
    .int8 = {avx2::quantize, avx2::packed_few, avx2::packed_many},
    .int16 = {avx2::quantize, avx2::packed_few, avx2::packed_many},
    .mxfp8_few = avx2::mxfp8_few,
    .dequantize = avx2::dequantize,
    .exp_sum = avx2::exp_sum,
    .scale = avx2::scale,
    .rms_norm = avx2::rms_norm,
    .swiglu = avx2::swiglu,
};

constexpr Table kAvx512 = {
    .name = "avx512",
    .small_floats = true,
    .to_float = avx2::to_float,
    .from_float = avx2::from_float,
    .dots = avx2::dots,
    .weighted_sum = avx2::weighted_sum,
    .panel = avx2::panel,
    .panel_product = avx2::panel_product,
    .int8 = {avx2::quantize, avx512::packed_few, avx512::packed_many},
    .int16 = {avx2::quantize, avx512::packed_few, avx512::packed_many},
    .mxfp8_few = avx2::mxfp8_few,
    .dequantize = avx2::dequantize,
    .exp_sum = avx2::exp_sum,
    .scale = avx2::scale,
    .rms_norm = avx2::rms_norm,
    .swiglu = avx2::swiglu,
};
#endif

std::atomic<const Table*> current{nullptr};
constexpr std::string_view kNames[] = {"avx512", "avx2", "scalar"};  // best first

const Table* choose() {
  const char* wanted = std::getenv("MLX_LM_CPU");
  if (wanted != nullptr && *wanted != '\0') {
    if (const Table* found = table_for(wanted)) return found;
    std::string usable;
    for (auto name : kNames) {
      if (table_for(name)) usable += (usable.empty() ? "" : ", ") + std::string(name);
    }
    fail<RequestError>("[cpu] MLX_LM_CPU: expected one of {} on this processor, found '{}'", usable, wanted);
  }
  for (auto name : kNames) {
    if (const Table* found = table_for(name)) return found;
  }
  return &kScalar;
}

}  // namespace

const Table* table_for(std::string_view name) {
  if (name == "scalar") return &kScalar;
#if defined(__x86_64__)
  // These look at the operating system's part (XCR0) too.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (name == "avx2" && avx2) return &kAvx2;
  if (name == "avx512" && avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni")) {
    return &kAvx512;
  }
#endif
  return nullptr;
}

const Table& table() {
  const Table* found = current.load(std::memory_order_acquire);
  if (found == nullptr) {
    found = choose();
    current.store(found, std::memory_order_release);
  }
  return *found;
}

const Table& table_for(const PackedView& w) {
  const Table& t = table();
  return w.format == Format::affine || t.small_floats ? t : kScalar;
}

void use_table(const Table* table) { current.store(table, std::memory_order_release); }

std::string_view instruction_set() { return table().name; }

}  // namespace mlx_lm::kernels
