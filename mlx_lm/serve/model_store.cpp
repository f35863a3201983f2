#include "mlx_lm/serve/model_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <set>

#include <fmt/format.h>

namespace mlx_lm::serve {
namespace {

namespace fs = std::filesystem;
using json = Json;
using Clock = std::chrono::steady_clock;

// What clients call a path: its last part, without ".gguf". Where it lies is not their business.
std::string name_of(const fs::path& path) {
  auto name = path.filename().empty() ? path.parent_path().filename() : path.filename();
  return (name.extension() == ".gguf" ? name.stem() : name).string();
}

bool is_model(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error) ? fs::exists(path / "config.json", error)
                                       : path.extension() == ".gguf" && fs::is_regular_file(path, error);
}

// One part of a path, which cannot lead anywhere else.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name[0] != '.' && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

// The name of a repository: two plain names with a slash between.
bool is_repository(const std::string& name) {
  const auto plain = [](const std::string& part) {
    return is_plain_name(part) && std::all_of(part.begin(), part.end(), [](unsigned char c) {
             return std::isalnum(c) || c == '-' || c == '_' || c == '.';
           });
  };
  const auto slash = name.find('/');
  return slash != name.npos && plain(name.substr(0, slash)) && plain(name.substr(slash + 1));
}

uint64_t size_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return fs::file_size(path, error);
  uint64_t sum = 0;
  for (const auto& file : fs::directory_iterator(path, error)) {
    const auto size = file.is_regular_file(error) ? file.file_size(error) : 0;
    if (!error) sum += size;
  }
  return sum;
}

// Bytes that the system can give without swapping; none where it does not say.
std::optional<uint64_t> available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("MemAvailable:")) return std::stoull(line.substr(13)) * 1024;
  }
  return std::nullopt;
}

// Of names, sizes and times of the files.
std::string fingerprint(const fs::path& path, const fs::path& adapter) {
  std::set<std::string> parts;
  const auto add = [&](const fs::path& file) {
    struct stat status;
    if (::stat(file.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return;
    parts.insert(fmt::format("{} {} {}.{}", file.filename().string(), status.st_size, status.st_mtim.tv_sec,
                             status.st_mtim.tv_nsec));
  };
  std::error_code error;
  for (const auto& place : {path, adapter}) {
    if (place.empty()) continue;
    add(place);
    for (const auto& file : fs::directory_iterator(place, error)) add(file.path());
  }
  std::string text;
  for (const auto& part : parts) text += part + "\n";
  return text;
}

}  // namespace

ModelStore::ModelStore(ModelStoreOptions options) : options_(std::move(options)) {
  const auto check = [](const fs::path& folder, const char* flag) {
    if (!folder.empty() && !fs::is_directory(folder)) {
      fail<RequestError>("[server] {}: expected a folder, found {}", flag, folder.string());
    }
  };
  check(options_.model_dir, "model-dir");
  check(options_.adapter_dir, "adapter-dir");
  std::error_code error;
  default_id_ = fs::exists(options_.model, error) ? name_of(options_.model) : options_.model;
  if (options_.idle_unload.count() == 0) return;
  unloader_ = std::jthread([this](std::stop_token stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      stopped_.wait_for(lock, stop, std::chrono::milliseconds(500), [] { return false; });
      unload_idle();
    }
  });
}

ModelStore::Source ModelStore::find(const std::optional<std::string>& name,
                                    const std::optional<std::string>& adapter) const {
  const auto unknown = [](const char* field, const std::string& value) {
    const auto shown = json(value.substr(0, 100)).dump(-1, ' ', true, json::error_handler_t::replace);
    throw ApiError(404, fmt::format("{}: expected one that GET /v1/models lists, found {}", field, shown), field,
                   "model_not_found");
  };
  Source source{default_id_, options_.model, options_.adapter_path};
  if (name && *name != "default_model" && *name != default_id_ && *name != options_.model) {
    source = {*name, {}, {}};
    if (!options_.model_dir.empty() && is_plain_name(*name)) {
      for (const auto& path : {options_.model_dir / *name, options_.model_dir / (*name + ".gguf")}) {
        if (is_model(path)) source.path_or_repo = path.string();
      }
    }
    if (source.path_or_repo.empty() && options_.allow_download && is_repository(*name)) source.path_or_repo = *name;
    if (source.path_or_repo.empty()) unknown("model", *name);
  }
  if (adapter) {
    if (options_.adapter_dir.empty() || !is_plain_name(*adapter) ||
        !fs::is_directory(options_.adapter_dir / *adapter)) {
      const auto shown = json(adapter->substr(0, 100)).dump(-1, ' ', true, json::error_handler_t::replace);
      throw ApiError(404, fmt::format("adapters: expected the name of a folder in --adapter-dir, found {}", shown),
                     "adapters", "adapter_not_found");
    }
    source.adapter = options_.adapter_dir / *adapter;
  }
  return source;
}

std::shared_ptr<const ServedModel> ModelStore::get(const std::optional<std::string>& name,
                                                   const std::optional<std::string>& adapter) {
  const auto source = find(name, adapter);
  const auto key = source.path_or_repo + '\n' + source.adapter.string();
  const std::lock_guard lock(mutex_);
  for (auto& entry : loaded_) {
    if (entry.key != key) continue;
    entry.used = Clock::now();
    return entry.model;
  }
  std::error_code error;
  if (!loaded_.empty() && fs::exists(source.path_or_repo, error)) make_room(size_of(source.path_or_repo));
  auto model = load(source);
  loaded_.push_back({key, model, Clock::now()});
  return model;
}

// Lets models go that no text uses, the longest unused first, until so many bytes are there.
void ModelStore::make_room(uint64_t bytes) {
  const uint64_t wanted = bytes + bytes / 4 + (uint64_t(256) << 20);
  while (true) {
    const auto available = available_memory();
    if (!available || *available >= wanted) return;
    Entry* oldest = nullptr;
    for (auto& entry : loaded_) {
      if (entry.model.use_count() <= 2 && (!oldest || entry.used < oldest->used)) oldest = &entry;
    }
    if (!oldest) {
      ApiError error(
          503, fmt::format("model: loading it takes {} MB of memory, {} MB are there", wanted >> 20, *available >> 20),
          "model", "out_of_memory");
      error.retry_after = 10;
      throw error;
    }
    loaded_.erase(loaded_.begin() + (oldest - loaded_.data()));
    if (options_.on_unload) options_.on_unload();
  }
}

std::shared_ptr<const ServedModel> ModelStore::load(const Source& source) {
  auto path = get_model_path(source.path_or_repo, {.revision = options_.revision});
  auto model = std::make_shared<ServedModel>(
      source.id,
      mlx_lm::load(path.string(), {.adapter_path = source.adapter, .chat_template = options_.chat_template}));
  model->path = path;
  model->fingerprint = fingerprint(path, source.adapter);
  model->drafts = {nullptr, options_.prompt_lookup, options_.num_draft_tokens};
  if (!options_.draft_model.empty() && source.path_or_repo == options_.model) {
    if (!draft_) draft_ = std::make_shared<Loaded>(mlx_lm::load(get_model_path(options_.draft_model).string()));
    ModelDrafter(*draft_->model, model->model());  // of the same vocabulary
    model->drafts.model = draft_;
  }
  struct stat status;
  if (::stat(path.c_str(), &status) == 0) model->created = status.st_mtim.tv_sec;
  return model;
}

json ModelStore::list() const {
  auto models = json::array();
  std::set<std::string> seen;
  const auto add = [&](const std::string& id, const fs::path& path) {
    if (!seen.insert(id).second) return;
    struct stat status;
    const auto created = ::stat(path.c_str(), &status) == 0 ? status.st_mtim.tv_sec : 0;
    models.push_back({{"id", id}, {"object", "model"}, {"created", created}, {"owned_by", "mlx_lm"}});
  };
  add(default_id_, options_.model);
  if (options_.model_dir.empty()) return models;
  std::vector<fs::path> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(options_.model_dir, error)) {
    if (is_plain_name(entry.path().filename().string()) && is_model(entry.path())) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) add(name_of(path), path);
  return models;
}

// Requires the mutex. One owner is the store, one may be the engine's lane, which ends without texts.
void ModelStore::unload_idle() {
  std::erase_if(loaded_, [&](const Entry& entry) {
    return entry.model.use_count() <= 2 && Clock::now() - entry.used > options_.idle_unload;
  });
}

}  // namespace mlx_lm::serve
