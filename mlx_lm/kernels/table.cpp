#include "mlx_lm/kernels/table.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "mlx_lm/base/error.h"
#if defined(__x86_64__)
#include "mlx_lm/kernels/x86.h"
#elif defined(__aarch64__)
#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/scalar.h"
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
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
    .weighted_sums = avx2::weighted_sums,
    .panel = avx2::panel,
    .panel_product = avx2::panel_product,
    .panel_products = avx2::panel_products,
    .nibbles = avx2::nibbles,
    .affine = avx2::affine,
    .quantize_affine = avx2::quantize_affine,
    .int8 = {avx2::quantize, avx2::packed_few, avx2::packed_many},
    .int16 = {avx2::quantize, avx2::packed_few, avx2::packed_many},
    .mxfp8_few = avx2::mxfp8_few,
    .dequantize = avx2::dequantize,
    .exp_sum = avx2::exp_sum,
    .scale = avx2::scale,
    .rms_norm = avx2::rms_norm,
    .swiglu = avx2::swiglu,
    .max = avx2::max,
    .soft_cap = avx2::soft_cap,
    .layer_norm = avx2::layer_norm,
    .geglu = avx2::geglu,
    .peaks = {avx2::int8_peak, avx2::int16_peak, avx2::float32_peak},
    .states = &avx2::kStates,
};

constexpr Table kAvx512 = {
    .name = "avx512",
    .small_floats = true,
    .to_float = avx512::to_float,
    .from_float = avx2::from_float,
    .dots = avx512::dots,
    .weighted_sums = avx512::weighted_sums,
    .panel = avx2::panel,
    .panel_product = avx2::panel_product,
    .panel_products = avx512::panel_products,
    .nibbles = avx2::nibbles,
    .affine = avx2::affine,
    .quantize_affine = avx2::quantize_affine,
    .int8 = {avx2::quantize, avx512::packed_few, avx512::packed_many},
    .int16 = {avx2::quantize, avx512::packed_few, avx512::packed_many},
    .mxfp8_few = avx2::mxfp8_few,
    .dequantize = avx2::dequantize,
    .exp_sum = avx512::exp_sum,
    .scale = avx2::scale,
    .rms_norm = avx512::rms_norm,
    .swiglu = avx512::swiglu,
    .max = avx512::max,
    .soft_cap = avx2::soft_cap,
    .layer_norm = avx2::layer_norm,
    .geglu = avx2::geglu,
    .peaks = {avx512::int8_peak, avx512::int16_peak, avx512::float32_peak},
    .states = &avx512::kStates,
};
constexpr std::string_view kNames[] = {"avx512", "avx2", "scalar"};  // best first
#elif defined(__aarch64__)
constexpr Table kNeon = {
    .name = "neon",
    .to_float = neon::to_float,
    .from_float = neon::from_float,
    .dots = dots_one_by_one<neon::dots>,
    .weighted_sums = weighted_sums_one_by_one<neon::weighted_sum>,
    .panel = neon::panel,
    .panel_product = neon::panel_product,
    .panel_products = panel_products_one_by_one<neon::panel_product>,
    .nibbles = neon::nibbles,
    .affine = neon::affine,
    .quantize_affine = scalar::quantize_affine,
    .int8 = {neon::quantize, neon::packed_few, neon::packed_many},
    .int16 = {neon::quantize, neon::packed_few, neon::packed_many},
    .dequantize = neon::dequantize,
    .exp_sum = neon::exp_sum,
    .scale = neon::scale,
    .rms_norm = neon::rms_norm,
    .swiglu = neon::swiglu,
    .max = scalar::max,
    .soft_cap = scalar::soft_cap,
    .layer_norm = scalar::layer_norm,
    .geglu = scalar::geglu,
    .peaks = {neon::int8_peak, neon::int16_peak, neon::float32_peak},
    .states = &neon::kStates,
};

constexpr Table with_products(Table table, std::string_view name, PackedProducts<int8_t> int8,
                              PackedProducts<int16_t> int16, Peaks peaks) {
  table.name = name;
  table.int8 = int8;
  table.int16 = int16;
  table.peaks = peaks;
  return table;
}
constexpr Table kDotprod = with_products(kNeon, "dotprod", {neon::quantize, dotprod::packed_few, dotprod::packed_many},
                                         {dotprod::quantize, dotprod::packed_few, dotprod::packed_many},
                                         {dotprod::int8_peak, dotprod::int16_peak, neon::float32_peak});
constexpr Table kI8mm = with_products(kNeon, "i8mm", {neon::quantize, dotprod::packed_few, i8mm::packed_many},
                                      {dotprod::quantize, dotprod::packed_few, i8mm::packed_many},
                                      {i8mm::int8_peak, i8mm::int16_peak, neon::float32_peak});
constexpr std::string_view kNames[] = {"i8mm", "dotprod", "neon", "scalar"};  // best first

#if defined(__linux__)
bool has_dotprod() { return ::getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
bool has_i8mm() { return ::getauxval(AT_HWCAP2) & HWCAP2_I8MM; }
#elif defined(__APPLE__)
bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof(value);
  return ::sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return has("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dotprod() { return false; }
bool has_i8mm() { return false; }
#endif
#else
constexpr std::string_view kNames[] = {"scalar"};
#endif

std::atomic<const Table*> current{nullptr};

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
#elif defined(__aarch64__)
  if (name == "neon") return &kNeon;
  if (name == "dotprod" && has_dotprod()) return &kDotprod;
  if (name == "i8mm" && has_dotprod() && has_i8mm()) return &kI8mm;
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
