#include "mlx_lm/ops/backend.h"

#include <sys/resource.h>

#include <cstdlib>
#include <optional>
#include <string_view>

#include "mlx_lm/base/error.h"

namespace mlx_lm::ops {
namespace {

std::optional<Backend> chosen;

bool wants_mlx() {
  static const bool wanted = [] {
    const char* text = std::getenv("MLX_LM_OPS");
    if (!text || std::string_view(text) == "kernels") return false;
    if (std::string_view(text) == "mlx") return true;
    fail<RequestError>("[ops] MLX_LM_OPS: expected kernels or mlx, found {}", text);
  }();
  return wanted;
}

}  // namespace

Backend backend() {
  if (chosen) return *chosen;
  return mx::default_device() == mx::Device::cpu && !wants_mlx() ? Backend::kernels : Backend::mlx;
}

void set_backend(Backend backend) { chosen = backend; }

mx::Dtype activation_type(mx::Dtype model_type) { return backend() == Backend::kernels ? mx::float32 : model_type; }

size_t peak_memory() {
  if (mx::default_device() == mx::Device::gpu) return mx::get_peak_memory();
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return size_t(usage.ru_maxrss);
#else
  return size_t(usage.ru_maxrss) * 1024;
#endif
}

}  // namespace mlx_lm::ops
