#include "mlx_lm/nn/fused_experts.h"

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {

void split_experts(const Weights& w, const ExpertShape& shape, const std::string& fused, const std::string& down) {
  const auto found = w.shape_of(fused);
  if (!found) return;
  const mx::Shape half{shape.experts, shape.intermediate_size, shape.hidden_size};
  if (*found != mx::Shape{half[0], 2 * half[1], half[2]}) {
    fail<WeightError>("[weights] {}: expected shape ({}, {}, {}), found ({})", fused, half[0], 2 * half[1], half[2],
                      fmt::join(*found, ", "));
  }
  const auto part = [&](const char* name, int begin) {
    return Weights::Part{fmt::format("switch_mlp.{}.weight", name), half,
                         [begin, half](const std::vector<mx::array>& from) {
                           return mx::slice(from[0], {0, begin, 0}, {half[0], begin + half[1], half[2]});
                         }};
  };
  w.rewrite({fused}, {part("gate_proj", 0), part("up_proj", half[1])});
  w.rename(down, "switch_mlp.down_proj.weight");
}

}  // namespace mlx_lm::nn
