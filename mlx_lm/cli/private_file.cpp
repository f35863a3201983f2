#include "mlx_lm/cli/private_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "mlx_lm/base/error.h"

namespace mlx_lm::cli {

void write_private_file(const std::filesystem::path& file, std::string_view bytes) {
  std::error_code error;
  auto target = std::filesystem::weakly_canonical(file, error);
  if (error) target = file;
  const auto failed = [&](int reason) {
    fail<Error>("[files] {}: could not be written: {}", file.string(), std::strerror(reason));
  };
  if (std::filesystem::is_directory(target, error)) failed(EISDIR);
  std::string temporary = target.string() + ".XXXXXX";
  const int descriptor = ::mkostemp(temporary.data(), O_CLOEXEC);  // mode 0600
  if (descriptor < 0) failed(errno);
  int reason = 0;
  while (!bytes.empty() && reason == 0) {
    const auto n = ::write(descriptor, bytes.data(), bytes.size());
    if (n >= 0) {
      bytes.remove_prefix(size_t(n));
    } else if (errno != EINTR) {
      reason = errno;
    }
  }
  if (reason == 0 && ::fsync(descriptor) != 0) reason = errno;
  if (::close(descriptor) != 0 && reason == 0) reason = errno;
  if (reason == 0 && ::rename(temporary.c_str(), target.c_str()) != 0) reason = errno;
  if (reason == 0) return;
  ::unlink(temporary.c_str());
  failed(reason);
}

void make_private_folders(const std::filesystem::path& folder) {
  std::filesystem::path path;
  for (const auto& part : folder) {
    path /= part;
    ::mkdir(path.c_str(), 0700);
  }
}

}  // namespace mlx_lm::cli
