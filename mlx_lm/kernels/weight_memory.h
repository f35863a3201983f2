// Memory for repacked weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace mlx_lm::kernels {

// Zeroed memory that lives as long as its last owner. Matrices that are made after one another share large chunks, so
// that even small ones lie in large pages: a token walks through all weights once, and page walks cost a tenth of the
// bandwidth; at start the pages come 512 at a time. The price is that a chunk goes back only with its last matrix.
// Alignment: 64. Errors: std::bad_alloc. Threads: safe to use from several.
std::shared_ptr<uint8_t> weight_memory(size_t bytes);

}  // namespace mlx_lm::kernels
