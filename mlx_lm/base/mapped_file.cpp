#include "mlx_lm/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // Without O_NONBLOCK a named pipe would hang the open instead of being refused below.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      fail<WeightError>("[file] {}: expected a file, found nothing", path.string());
    fail<WeightError>("[file] {}: could not be opened: {}", path.string(), std::strerror(errno));
  }
  struct stat status;
  if (::fstat(file.fd, &status) != 0) fail<WeightError>("[file] {}: {}", path.string(), std::strerror(errno));
  if (S_ISDIR(status.st_mode)) fail<WeightError>("[file] {}: expected a file, found a folder", path.string());
  if (!S_ISREG(status.st_mode)) {
    fail<WeightError>("[file] {}: expected a regular file, found a device, pipe or socket", path.string());
  }
  if (status.st_size <= 0) fail<WeightError>("[file] {}: expected data, found an empty file", path.string());

  auto size = size_t(status.st_size);
  // Read-only: MLX writes in place only into buffers that it allocated itself (Data::is_owned), so a write here is a
  // bug that should stop the program rather than quietly change a weight.
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) fail<WeightError>("[file] {}: could not be mapped: {}", path.string(), std::strerror(errno));
  return std::shared_ptr<const MappedFile>(new MappedFile(path, static_cast<const std::byte*>(data), size));
}

MappedFile::~MappedFile() { ::munmap(const_cast<std::byte*>(data_), size_); }

void MappedFile::release(size_t offset, size_t size) const {
  static const size_t page = size_t(::sysconf(_SC_PAGESIZE));
  if (offset >= size_) return;
  size_t end = offset + std::min(size, size_ - offset);
  // The last page of the file is whole for us: nothing lies beyond its end.
  size_t first = (offset + page - 1) / page * page;
  size_t last = end == size_ ? size_ : end / page * page;
  if (first < last) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

}  // namespace mlx_lm
