// The models that the server may answer with, loaded when they are asked for.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "mlx_lm/serve/fields.h"
#include "mlx_lm/serve/served_model.h"

namespace mlx_lm::serve {

struct ModelStoreOptions {
  std::string model;                    // the default: a folder, a .gguf file or a repository
  std::string revision = "main";        // of a repository
  std::filesystem::path adapter_path;   // for the default model; empty: none
  std::filesystem::path model_dir;      // whose folders and .gguf files requests may name; empty: none
  std::filesystem::path adapter_dir;    // whose folders requests may name as `adapters`; empty: none
  bool allow_download = false;          // requests may name repositories
  std::chrono::seconds idle_unload{0};  // after which a model that nobody asks for is let go; 0: never
  std::string chat_template;            // instead of the model's own; empty: that
  std::string draft_model;              // that guesses the default model's tokens: as `model`; empty: none
  bool prompt_lookup = false;           // texts guess their own tokens, for all models
  int num_draft_tokens = 8;             // guessed at a time at most
  std::function<void()> on_unload;      // called when one was let go, until its memory is free
};

// Threads: any; a model is loaded once, and who asks for it meanwhile waits.
class ModelStore {
 public:
  // Errors: RequestError for a folder that is not there.
  explicit ModelStore(ModelStoreOptions options);

  // By the name that a request gives; none, "default_model" and the default's own names: the default.
  // Errors: ApiError with status 404 for a name that is not known or not allowed, 503 when the memory is not enough;
  // those of load().
  std::shared_ptr<const ServedModel> get(const std::optional<std::string>& name,
                                         const std::optional<std::string>& adapter = {});

  // [{"id", "object": "model", "created", "owned_by"}], the default first.
  Json list() const;
  const std::string& default_id() const { return default_id_; }

 private:
  void unload_idle();

  struct Entry {
    std::string key;
    std::shared_ptr<const ServedModel> model;
    std::chrono::steady_clock::time_point used;
  };
  struct Source {
    std::string id, path_or_repo;
    std::filesystem::path adapter;
  };
  Source find(const std::optional<std::string>& name, const std::optional<std::string>& adapter) const;
  std::shared_ptr<const ServedModel> load(const Source& source);
  void make_room(uint64_t bytes);

  ModelStoreOptions options_;
  std::string default_id_;
  std::mutex mutex_;  // of what follows, held while loading
  std::vector<Entry> loaded_;
  std::shared_ptr<const Loaded> draft_;
  std::condition_variable_any stopped_;
  std::jthread unloader_;  // if there is idle_unload; last, so that it ends before what it uses
};

}  // namespace mlx_lm::serve
