// Ctrl-C.
#pragma once

#include <stop_token>

namespace mlx_lm::cli {

inline constexpr int kInterrupted = 130;  // exit status, as shells have it: 128 + SIGINT

// Stops at the first Ctrl-C (SIGINT) from now on; the second ends the program at once. To be called once.
std::stop_token stop_on_interrupt();

}  // namespace mlx_lm::cli
