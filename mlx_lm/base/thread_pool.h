// The program's own worker threads, for the kernels.
#pragma once

#include <memory>
#include <type_traits>

namespace mlx_lm {

// A few threads that live as long as the program. Between two pieces of work they spin for some microseconds and then
// sleep, so that back-to-back kernels start at once and an idle program costs nothing.
class ThreadPool {
 public:
  // The program's pool: MLX_LM_THREADS threads, else one per physical core that this process may use, less
  // one from 8 cores on.
  static ThreadPool& global();
  // Its threads, in place of the environment's. Errors: RequestError unless there are 1 to 256, or when the pool is in
  // use with another number already.
  static void set_global_size(int threads);

  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Threads that work, the caller included.
  int size() const;

  // Calls work(i) once for every i in [0, tasks), spread over the threads, and returns when all are done. work must
  // not throw and must not call run(). Threads: callers take turns.
  template <class F>
  void run(int tasks, F&& work) {
    run(
        tasks, [](void* f, int i) { (*static_cast<std::remove_reference_t<F>*>(f))(i); },
        const_cast<void*>(static_cast<const void*>(&work)));
  }

 private:
  void run(int tasks, void (*call)(void*, int), void* work);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mlx_lm
