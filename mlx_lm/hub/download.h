// Models from the Hugging Face Hub.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mlx_lm {

struct DownloadOptions {
  std::string revision = "main";      // a branch, a tag or a commit
  std::vector<std::string> patterns;  // of the files wanted, as the shell's; none: all
  bool offline = false;               // only what the cache holds
  // Told of each file: bytes so far and in all.
  std::function<void(const std::string& file, uint64_t done, uint64_t total)> progress;
};

// The folder of the repository's snapshot in the cache that Hugging Face's own tools share; downloads what is missing
// and goes on with what was cut off. Environment: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and
// others (docs/hub.md).
// Errors: Error in one line, for a repository that is not there or not open, a network or a disk that fails, and
// anything that the server says and should not. What progress throws ends the download and becomes an Error, too.
// Threads: safe to use from several, also of other processes: a file is fetched once.
std::filesystem::path download_snapshot(const std::string& repo, const DownloadOptions& options);

}  // namespace mlx_lm
