#include "mlx_lm/kernels/parallel.h"

#include <atomic>

namespace mlx_lm::kernels {
namespace {
std::atomic<ThreadPool*> chosen{nullptr};
}  // namespace

ThreadPool& pool() {
  ThreadPool* other = chosen.load(std::memory_order_relaxed);
  return other != nullptr ? *other : ThreadPool::global();
}

void use_pool(ThreadPool* pool) { chosen.store(pool); }

}  // namespace mlx_lm::kernels
