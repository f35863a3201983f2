// Files for the user's eyes only.
#pragma once

#include <filesystem>
#include <string_view>

namespace mlx_lm::cli {

// Writes under a temporary name beside it and renames that, so that the file is there whole or not at all. A link is
// followed. Errors: Error that names the file and the reason.
void write_private_file(const std::filesystem::path& file, std::string_view bytes);

// The folders that are not there yet, for the user alone; as far as they can be made.
void make_private_folders(const std::filesystem::path& folder);

}  // namespace mlx_lm::cli
