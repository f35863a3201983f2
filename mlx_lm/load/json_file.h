// JSON files of a model folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace mlx_lm {

// The text of a file of the folder; nullopt if it is not there. limit: bytes. Errors: Error for one that is larger, and
// those of find_file().
std::optional<std::string> read_text(const std::filesystem::path& folder, std::string_view name, size_t limit);

// The same, parsed. Non-finite numbers that transformers writes as {"__float__": "Infinity"} are numbers again.
// Errors: ConfigError that names the file and the place for text that is not JSON or is nested too deep.
std::optional<nlohmann::json> read_json(const std::filesystem::path& folder, std::string_view name);

}  // namespace mlx_lm
