// Where a model's files are on this machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace mlx_lm {

struct PathOptions {
  std::string revision = "main";  // of a Hub repository: a branch, a tag or a commit
  bool offline = false;           // only what was downloaded before; also HF_HUB_OFFLINE=1
  // Told of each file of a download: bytes so far and in all.
  std::function<void(const std::string& file, uint64_t done, uint64_t total)> progress;
};

// A folder with config.json, or a .gguf file: path_or_repo itself if it exists, else the Hugging Face repository of
// that name, downloaded into the cache that other tools use too (docs/hub.md). Errors: Error when there is neither; the
// download's own errors.
std::filesystem::path get_model_path(const std::string& path_or_repo, const PathOptions& options = {});

// The model that is used when none is named: SmolLM2-135M-Instruct, which `make setup` puts into the user's cache.
// Errors: Error when it is not there.
std::filesystem::path default_model_path();

}  // namespace mlx_lm
