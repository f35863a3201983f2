#include "mlx_lm/load/get_model_path.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "mlx_lm/base/error.h"
#include "mlx_lm/hub/download.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;

// What mlx-lm downloads, but for Python code, which is never run here.
const std::vector<std::string> kPatterns = {
    "*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "tiktoken.model", "*.txt", "*.jsonl", "*.jinja"};

// Names that can only be meant as paths: the Hub's are "name" or "organization/name".
bool is_path(const std::string& name) {
  return name.empty() || name.find_first_of("./~") == 0 || name.ends_with('/') || name.ends_with(".gguf") ||
         std::count(name.begin(), name.end(), '/') > 1;
}

// The folder itself, or the one GGUF file that is all it holds of a model.
fs::path model_in(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "config.json", error)) return folder;
  std::vector<fs::path> files;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".gguf") files.push_back(it->path());
  }
  if (error) fail<Error>("[load] {}: could not be listed: {}", folder.string(), error.message());
  if (files.size() == 1) return files[0];
  fail<Error>("[load] {}: expected config.json{}, found neither", folder.string(),
              files.empty() ? " or a .gguf file" : " or a single .gguf file (name the one that you mean)");
}

}  // namespace

fs::path get_model_path(const std::string& path_or_repo, const PathOptions& options) {
  std::error_code error;
  const fs::path path(path_or_repo);
  const auto status = fs::status(path, error);
  if (fs::is_directory(status)) return model_in(path);
  if (fs::exists(status)) {
    if (path.extension() == ".gguf") return path;
    fail<Error>("[load] {}: expected a model folder or a .gguf file, found another kind of file", path_or_repo);
  }
  if (is_path(path_or_repo)) {
    fail<Error>("[load] {}: expected a model folder, a .gguf file or a Hugging Face repository, found nothing",
                path_or_repo);
  }
  return model_in(download_snapshot(
      path_or_repo,
      {.revision = options.revision, .patterns = kPatterns, .offline = options.offline, .progress = options.progress}));
}

fs::path default_model_path() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  auto cache = fs::path(variable("XDG_CACHE_HOME"));
  if (cache.empty()) cache = fs::path(variable("HOME")) / ".cache";
  const auto path = cache / "mlx-lm.cpp" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  if (std::error_code error; !fs::exists(path, error)) {
    fail<Error>("[load] {}: expected the default model, found nothing; run `make setup` or name a model with --model",
                path.string());
  }
  return path;
}

}  // namespace mlx_lm
