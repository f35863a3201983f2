#include "mlx_lm/cli/interrupt.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "mlx_lm/base/error.h"

namespace mlx_lm::cli {
namespace {

int pipe_ends[2];

void on_interrupt(int) { [[maybe_unused]] auto n = ::write(pipe_ends[1], "", 1); }

}  // namespace

// A signal handler may do next to nothing, so it wakes a thread that does the rest.
std::stop_token stop_on_interrupt() {
  static std::stop_source source;
  static const bool ready = ::pipe(pipe_ends) == 0;
  if (ready) {
    std::thread([] {
      char byte;
      if (::read(pipe_ends[0], &byte, 1) == 1) source.request_stop();
    }).detach();
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESETHAND | SA_RESTART;  // the second Ctrl-C meets the default: the end
    ::sigaction(SIGINT, &action, nullptr);
  }
  return source.get_token();
}

Interrupts::Interrupts() {
  if (::pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) fail<Error>("[cli] no pipe could be opened");
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
}

bool Interrupts::take() {
  char bytes[64];
  bool any = false;
  while (::read(pipe_ends[0], bytes, sizeof bytes) > 0) any = true;
  return any;
}

int Interrupts::descriptor() const { return pipe_ends[0]; }

}  // namespace mlx_lm::cli
