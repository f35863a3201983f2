#include "mlx_lm/ops/sampling.h"

#include <cassert>
#include <utility>

#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {
namespace {

// Input: logits.
struct Sample {
  static constexpr const char* kName = "Sample";
  std::shared_ptr<const Filters> filters;
  float temp;
  std::vector<Draw> draws;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int n = int(draws.size());
    return [filters = filters, temp = temp, draws = draws, n, size = int(inputs[0].size() / draws.size()),
            x = inputs[0].data<float>(),
            out = outputs[0].data<uint32_t>()] { kernels::sample(x, n, size, *filters, temp, draws.data(), out); };
  }
};

// Input: logits.
struct Filter {
  static constexpr const char* kName = "Filter";
  Filters filters;
  bool xtc;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int size = outputs[0].shape(-1);
    return [filters = filters, xtc = xtc, size, n = int(outputs[0].size() / size), x = inputs[0].data<float>(),
            out = outputs[0].data<float>()] { kernels::filter(x, n, size, filters, xtc, out); };
  }
};

// Inputs: logits, tokens.
struct Adjust {
  static constexpr const char* kName = "Adjust";
  std::vector<std::shared_ptr<const Adjustment>> adjustments;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int size = outputs[0].shape(-1);
    std::vector<Adjustment> list;
    for (const auto& a : adjustments) list.push_back(*a);
    return [list = std::move(list), size, n = int(outputs[0].size() / size), x = inputs[0].data<float>(),
            tokens = std::span(inputs[1].data<int32_t>(), inputs[1].size()),
            out = outputs[0].data<float>()] { kernels::adjust(x, n, size, list, tokens, out); };
  }
};

}  // namespace

mx::array sample(const mx::array& logits, std::shared_ptr<const Filters> filters, float temp, std::vector<Draw> draws) {
  auto shape = logits.shape();
  shape.pop_back();
  assert(draws.size() * size_t(logits.shape(-1)) == logits.size());
  return cpu_step({std::move(shape)}, {mx::uint32}, {as_float32(unshaped(logits))},
                  Sample{std::move(filters), temp, std::move(draws)})[0];
}

mx::array filter(const mx::array& logits, Filters filters, bool xtc) {
  return cpu_step(logits.shape(), {as_float32(unshaped(logits))}, Filter{std::move(filters), xtc});
}

mx::array adjust(const mx::array& logits, const mx::array& tokens, std::shared_ptr<const Adjustment> adjustment) {
  Adjust work;
  std::vector<mx::array> inputs{as_float32(unshaped(logits)), tokens};
  const auto* before = pending<Adjust>(logits);
  if (before && logits.inputs()[1].id() == tokens.id()) {
    work.adjustments = before->adjustments;
    inputs = logits.inputs();
  }
  work.adjustments.push_back(std::move(adjustment));
  return cpu_step(logits.shape(), std::move(inputs), std::move(work));
}

}  // namespace mlx_lm::ops
