// Disks that refuse: for root, too, whom permissions do not stop.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

namespace mlx_lm {

// Until the end of the scope, nothing below `folder` can be written, by a user who is not root.
class AsNobody {
 public:
  explicit AsNobody(const std::filesystem::path& folder) {
    add(folder);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (!entry.is_symlink()) add(entry.path());
    }
    for (const auto& [path, before] : before_) {
      using enum std::filesystem::perms;
      std::filesystem::permissions(path, (before | owner_read | group_read | others_read | group_exec | others_exec) &
                                             ~(owner_write | group_write | others_write));
    }
    if (geteuid() == 0 && seteuid(65534)) throw std::runtime_error("seteuid");
  }
  ~AsNobody() {
    if (getuid() == 0 && seteuid(0)) std::abort();
    for (const auto& [path, before] : before_) std::filesystem::permissions(path, before);
  }

 private:
  void add(const std::filesystem::path& path) {
    before_.emplace_back(path, std::filesystem::status(path).permissions());
  }
  std::vector<std::pair<std::filesystem::path, std::filesystem::perms>> before_;
};

// Until the end of the scope, no file of this process can grow beyond `bytes`: what a full disk looks like to it.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    signal_ = signal(SIGXFSZ, SIG_IGN);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, signal_);
  }

 private:
  rlimit before_;
  sighandler_t signal_;
};

}  // namespace mlx_lm
