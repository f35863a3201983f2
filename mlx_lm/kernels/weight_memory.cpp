#include "mlx_lm/kernels/weight_memory.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

namespace mlx_lm::kernels {
namespace {

constexpr size_t kHuge = size_t{2} << 20;    // a large page
constexpr size_t kChunk = size_t{32} << 20;  // that small matrices share
constexpr size_t kShared = size_t{8} << 20;  // matrices above this have memory of their own
constexpr size_t kAlignment = 64;

size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

class Chunk {
 public:
  explicit Chunk(size_t bytes) : size_(rounded(std::max<size_t>(bytes, 1), kHuge)) {
#ifdef __linux__
    // The system gives zeroed pages when they are touched; one large page more, to begin where one begins.
    mapped_ = ::mmap(nullptr, size_ + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    data_ = reinterpret_cast<uint8_t*>(rounded(reinterpret_cast<uintptr_t>(mapped_), kHuge));
    ::madvise(data_, size_, MADV_HUGEPAGE);
#else
    data_ = static_cast<uint8_t*>(std::aligned_alloc(kHuge, size_));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_, 0, size_);
#endif
  }
  ~Chunk() {
#ifdef __linux__
    ::munmap(mapped_, size_ + kHuge);
#else
    std::free(data_);
#endif
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  // Null when the chunk has not that much left.
  uint8_t* take(size_t bytes) {
    bytes = rounded(bytes, kAlignment);
    if (bytes > size_ - used_) return nullptr;
    return data_ + std::exchange(used_, used_ + bytes);
  }

 private:
  size_t size_, used_ = 0;
  void* mapped_ = nullptr;
  uint8_t* data_;
};

}  // namespace

std::shared_ptr<uint8_t> weight_memory(size_t bytes) {
  if (bytes > kShared) {
    auto own = std::make_shared<Chunk>(bytes);
    uint8_t* data = own->take(bytes);
    return {std::move(own), data};
  }
  static std::mutex mutex;
  static std::weak_ptr<Chunk> current;
  std::lock_guard lock(mutex);
  auto chunk = current.lock();
  uint8_t* data = chunk ? chunk->take(bytes) : nullptr;
  if (data == nullptr) {
    current = chunk = std::make_shared<Chunk>(kChunk);
    data = chunk->take(bytes);
  }
  return {std::move(chunk), data};
}

}  // namespace mlx_lm::kernels
