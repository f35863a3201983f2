// The files of a model folder, reached without leaving it.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace mlx_lm {

// folder / name, or nullopt if nothing is there. name may come from a file of the folder: a relative path without "..".
// Links are followed to a regular file inside the folder or, in the Hub's cache (models--x/snapshots/<revision>),
// inside the `blobs` folder beside `snapshots`. So a downloaded folder cannot make us read a file that is not its own.
// Errors: Error for a name or link that leaves the folder, a broken link, and anything but a regular file.
std::optional<std::filesystem::path> find_file(const std::filesystem::path& folder, std::string_view name);

}  // namespace mlx_lm
