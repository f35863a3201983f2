// Which kind of activations products use.
#include <atomic>
#include <cstdlib>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::kernels {
namespace {

std::atomic<int> chosen_activations{-1};

Activations activations_from_environment() {
  const char* text = std::getenv("MLX_LM_ACTIVATIONS");
  const std::string_view wanted = text == nullptr ? "" : text;
  if (wanted.empty() || wanted == "int16") return Activations::int16;
  if (wanted == "int8") return Activations::int8;
  if (wanted == "float32") return Activations::float32;
  fail<RequestError>("[cpu] MLX_LM_ACTIVATIONS: expected int8, int16 or float32, found '{}'", wanted);
}

}  // namespace

void set_activations(Activations activations) { chosen_activations.store(static_cast<int>(activations)); }

Activations activations() {
  const int chosen = chosen_activations.load(std::memory_order_relaxed);
  if (chosen >= 0) return static_cast<Activations>(chosen);
  const Activations found = activations_from_environment();
  set_activations(found);
  return found;
}

}  // namespace mlx_lm::kernels
