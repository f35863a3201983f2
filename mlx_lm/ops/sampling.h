// The kernels of sampling.h as steps of MLX's graph. For Backend::kernels alone: sample/ has MLX's own operations.
#pragma once

#include <memory>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/kernels/sampling.h"

namespace mlx_lm::ops {
namespace mx = mlx::core;

using kernels::Adjustment;
using kernels::Draw;
using kernels::Filters;

// One token of each row, see kernels::sample. Shapes: logits (..., V), as many draws as rows -> (...) uint32. Eval:
// lazy.
mx::array sample(const mx::array& logits, std::shared_ptr<const Filters> filters, float temp, std::vector<Draw> draws);

// What the filters drop becomes -infinity. Shapes: logits (..., V) -> the same. Eval: lazy.
mx::array filter(const mx::array& logits, Filters filters, bool xtc = false);

// Changes logits by the tokens so far. One adjustment after another of the same tokens becomes one step, with one copy
// of the logits. Shapes: logits (..., V), tokens (n) int32 -> (..., V). Eval: lazy.
mx::array adjust(const mx::array& logits, const mx::array& tokens, std::shared_ptr<const Adjustment> adjustment);

}  // namespace mlx_lm::ops
