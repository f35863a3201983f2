// A file's bytes as read-only memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace mlx_lm {

// A whole file, mapped. The pages come in as they are touched and can be let go one range at a time.
// A file that is cut short by another program while it is mapped ends this one (SIGBUS): replace weight files by
// renaming, never write into them.
// Threads: safe to use from several.
class MappedFile {
 public:
  // Errors: WeightError for a path that is missing, unreadable, empty, a folder or anything but a regular file.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  // Gives back the memory of the whole pages inside the range; touching them again reads the file again.
  void release(size_t offset, size_t size) const;

 private:
  MappedFile(std::filesystem::path path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::filesystem::path path_;
  const std::byte* data_;
  size_t size_;
};

}  // namespace mlx_lm
