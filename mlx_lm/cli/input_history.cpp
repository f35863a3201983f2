#include "mlx_lm/cli/input_history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

#include "mlx_lm/cli/private_file.h"

namespace mlx_lm::cli {
namespace {

using nlohmann::json;

std::string to_line(const std::string& text) {
  return json(text).dump(-1, ' ', /* ensure_ascii */ false, json::error_handler_t::replace) + "\n";
}

}  // namespace

InputHistory::InputHistory(std::filesystem::path file) : file_(std::move(file)) {
  if (file_.empty()) return;
  make_private_folders(file_.parent_path());
  std::error_code error;
  if (!std::filesystem::is_regular_file(file_, error)) return;  // nor a pipe that never ends
  const auto size = std::filesystem::file_size(file_, error);
  std::ifstream in(file_, std::ios::binary);
  std::string line;
  const bool long_file = !error && size > kMaxBytes;
  if (long_file) {
    in.seekg(std::streamoff(size - kMaxBytes));
    std::getline(in, line);  // which began before
  }
  size_t lines = 0;
  for (; std::getline(in, line); ++lines) {
    const auto entry = json::parse(line, nullptr, /* allow_exceptions */ false);
    if (!entry.is_string()) continue;
    auto text = entry.get<std::string>();
    if (entries_.empty() || entries_.back() != text) entries_.push_back(std::move(text));
  }
  if (entries_.size() > kMaxEntries) entries_.erase(entries_.begin(), entries_.end() - kMaxEntries);
  if (long_file || lines > 2 * kMaxEntries) shorten();
}

void InputHistory::add(const std::string& text) {
  if (!entries_.empty() && entries_.back() == text) return;
  entries_.push_back(text);
  if (file_.empty()) return;
  const int file = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (file < 0) return;
  ::fchmod(file, 0600);
  const auto line = to_line(text);
  [[maybe_unused]] const auto written = ::write(file, line.data(), line.size());  // in one piece, beside other sessions
  ::close(file);
}

void InputHistory::shorten() const {
  std::string all;
  for (const auto& entry : entries_) all += to_line(entry);
  try {
    write_private_file(file_, all);
  } catch (const std::exception&) {
  }
}

std::filesystem::path default_history_file() {
  // The standard says that a relative path counts as none.
  const auto from = [](const char* variable) {
    const char* value = std::getenv(variable);
    return value && value[0] == '/' ? std::filesystem::path(value) : std::filesystem::path();
  };
  auto state = from("XDG_STATE_HOME");
  if (state.empty() && !from("HOME").empty()) state = from("HOME") / ".local" / "state";
  return state.empty() ? state : state / "mlx-lm.cpp" / "chat_history";
}

}  // namespace mlx_lm::cli
