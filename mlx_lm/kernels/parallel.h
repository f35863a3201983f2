// How the kernels spread work over threads.
#pragma once

#include <algorithm>
#include <utility>

#include "mlx_lm/base/thread_pool.h"

namespace mlx_lm::kernels {

// ThreadPool::global(), or the pool that a test put in its place (null: the global one again).
ThreadPool& pool();
void use_pool(ThreadPool* pool);

// Below this many operations (multiplications, or bytes moved: it is a matter of orders of magnitude) one thread is
// faster than waking a second, which costs about 5 µs when it sleeps and 0.5 µs when it spins.
constexpr double kWorthSharing = 30000;

// Calls work(i) for every i in [0, tasks); `operations` is the work of all of them together.
template <class F>
void parallel(int tasks, double operations, F&& work) {
  if (operations < kWorthSharing) {
    for (int i = 0; i < tasks; ++i) work(i);
  } else {
    pool().run(tasks, std::forward<F>(work));
  }
}

// Calls work(begin, end) for pieces of [0, n) of `piece` each; operations as above, of all together.
template <class F>
void parallel_pieces(int n, int piece, double operations, F&& work) {
  parallel((n + piece - 1) / piece, operations, [&](int i) { work(i * piece, std::min(n, (i + 1) * piece)); });
}

}  // namespace mlx_lm::kernels
