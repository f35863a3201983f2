// What every way of packing ends in.
#pragma once

#include <cstdint>
#include <memory>

#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

// The matrix that a view describes; memory holds its data.
std::shared_ptr<const PackedMatrix> packed_matrix(std::shared_ptr<uint8_t> memory, const PackedView& view);

}  // namespace mlx_lm::kernels
