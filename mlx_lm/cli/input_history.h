// What was typed in earlier sessions.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mlx_lm::cli {

// A file with a JSON string a line, for the user's eyes only. Sessions side by side each append to it. Nobody's message
// fails for it: a file that cannot be read or written is as good as none.
class InputHistory {
 public:
  static constexpr size_t kMaxEntries = 1000;
  static constexpr size_t kMaxBytes = 4 << 20;  // read, from its end

  // Creates the folder, and shortens a file that has grown too long.
  explicit InputHistory(std::filesystem::path file);

  // Oldest first, none twice in a row.
  const std::vector<std::string>& entries() const { return entries_; }
  void add(const std::string& text);

 private:
  void shorten() const;

  std::filesystem::path file_;
  std::vector<std::string> entries_;
};

// $XDG_STATE_HOME/mlx-lm.cpp/chat_history, or below ~/.local/state; empty when neither is known.
std::filesystem::path default_history_file();

}  // namespace mlx_lm::cli
