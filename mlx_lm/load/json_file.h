// JSON files of a model folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace mlx_lm {

// The text of a file of the folder; nullopt if it is not there. limit: bytes. Errors: Error for one that is larger, and
// those of find_file().
std::optional<std::string> read_text(const std::filesystem::path& folder, std::string_view name, size_t limit);

// JSON from outside. Non-finite numbers that transformers writes as {"__float__": "Infinity"} are numbers again.
// where: as errors should call it. Errors: ConfigError that names the place for text that is not JSON or is nested too
// deep to be walked recursively.
nlohmann::json parse_json(std::string_view text, const std::string& where);

// A file of the folder, parsed; nullopt if it is not there.
std::optional<nlohmann::json> read_json(const std::filesystem::path& folder, std::string_view name);

}  // namespace mlx_lm
