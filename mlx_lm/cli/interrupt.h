// Ctrl-C.
#pragma once

#include <stop_token>

namespace mlx_lm::cli {

inline constexpr int kInterrupted = 130;  // exit status, as shells have it: 128 + SIGINT

// Stops at the first Ctrl-C (SIGINT) from now on; the second ends the program at once. To be called once.
std::stop_token stop_on_interrupt();

// Ctrl-C for a program that goes on after it: from now on it does nothing but to be seen here. One object in a program,
// and not together with the above. Threads: any.
class Interrupts {
 public:
  Interrupts();
  // Whether one came since the last call.
  bool take();
  // Readable while one came that was not taken.
  int descriptor() const;
};

}  // namespace mlx_lm::cli
