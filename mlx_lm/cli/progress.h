// Progress on standard error, when that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace mlx_lm::cli {

// One line that is written over again, at most ten times a second, and cleared at the end.
class StatusLine {
 public:
  StatusLine();
  ~StatusLine() { clear(); }
  void show(const std::string& text, bool now = false);
  void clear();

 private:
  bool terminal_;
  size_t shown_ = 0;
  std::chrono::steady_clock::time_point last_{};
};

// A bar for each file of a download.
class DownloadProgress {
 public:
  std::function<void(const std::string& file, uint64_t done, uint64_t total)> callback();

 private:
  StatusLine line_;
};

// Tokens of a prompt that takes longer than half a second.
class PrefillProgress {
 public:
  std::function<void(int processed, int total)> callback();

 private:
  StatusLine line_;
  std::chrono::steady_clock::time_point start_{};
};

}  // namespace mlx_lm::cli
