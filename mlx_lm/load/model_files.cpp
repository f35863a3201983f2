#include "mlx_lm/load/model_files.h"

#include <algorithm>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;

bool stays_inside(std::string_view name) {
  if (name.empty() || name.size() > 4096 || name.find('\0') != name.npos) return false;
  const fs::path path(name);
  return path.is_relative() && std::ranges::none_of(path, [](const fs::path& part) { return part == ".."; });
}

bool is_below(const fs::path& path, const fs::path& folder) {
  auto [left, right] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return left == folder.end() && right != path.end();
}

}  // namespace

std::optional<fs::path> find_file(const fs::path& folder, std::string_view name) {
  if (!stays_inside(name)) {
    fail<Error>("[files] {}: expected the name of a file inside the folder, found \"{}\"", folder.string(),
                name.substr(0, 200));
  }
  const fs::path path = folder / fs::path(name);
  std::error_code error;
  const auto own = fs::symlink_status(path, error);
  if (own.type() == fs::file_type::not_found) return std::nullopt;
  const fs::path target = fs::canonical(path, error);
  if (error) fail<Error>("[files] {}: could not be followed: {}", path.string(), error.message());
  if (!fs::is_regular_file(target, error)) {
    fail<Error>("[files] {}: expected a regular file, found a folder or a device", path.string());
  }
  const fs::path home = fs::canonical(folder, error);
  if (error) fail<Error>("[files] {}: could not be followed: {}", folder.string(), error.message());
  if (is_below(target, home)) return path;
  if (home.parent_path().filename() == "snapshots") {
    const fs::path blobs = fs::canonical(home.parent_path().parent_path() / "blobs", error);
    if (!error && is_below(target, blobs)) return path;
  }
  fail<Error>("[files] {}: expected a file of this folder, found a link to {}", path.string(), target.string());
}

}  // namespace mlx_lm
