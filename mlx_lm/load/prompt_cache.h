// Prompt-cache files: what a model has read, to go on from without reading it again. They are mlx-lm's.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "mlx_lm/models/architecture.h"

namespace mlx_lm {
namespace mx = mlx::core;

using PromptCacheMetadata = std::map<std::string, std::string>;

// Writes one safetensors file, under another name that becomes the file's own at the end. Its data are aligned, so that
// they can be used where they lie.
// Errors: RequestError for a cache that is empty or of a kind that no file can keep, or a key with a dot; Error for a
// file that cannot be written. Eval: forces what the caches hold.
// Source: mlx_lm/models/cache.py, save_prompt_cache.
void save_prompt_cache(const std::filesystem::path& file, const cache::KVCaches& caches,
                       const PromptCacheMetadata& metadata);

struct PromptCache {
  cache::KVCaches caches;
  PromptCacheMetadata metadata;  // what was given when it was saved
};

// Reads such a file, or one of mlx-lm up to 0.32.1, which wrote them otherwise. The data stay in the file, mapped,
// until the first step that uses them. Errors: WeightError that names the file and what is wrong with it.
PromptCache load_prompt_cache(const std::filesystem::path& file);

// Errors: WeightError unless the caches can be those of one text with that model. `where`: the file.
void check_prompt_cache(const cache::KVCaches& caches, const models::LanguageModel& model, const std::string& where);

}  // namespace mlx_lm
