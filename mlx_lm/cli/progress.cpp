#include "mlx_lm/cli/progress.h"

#include <unistd.h>

#include <cstdio>

#include <fmt/format.h>

namespace mlx_lm::cli {
namespace {

std::string bar(double part) {
  constexpr int kWidth = 30;
  const int filled = int(part * kWidth);
  return std::string(filled, '#') + std::string(kWidth - filled, '.');
}

}  // namespace

StatusLine::StatusLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void StatusLine::show(const std::string& text, bool now) {
  const auto time = std::chrono::steady_clock::now();
  if (!terminal_ || (!now && time - last_ < std::chrono::milliseconds(100))) return;
  last_ = time;
  std::fprintf(stderr, "\r%s\x1b[K", text.c_str());
  std::fflush(stderr);
  shown_ = text.size();
}

void StatusLine::clear() {
  if (shown_ == 0) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = 0;
}

std::function<void(const std::string&, uint64_t, uint64_t)> DownloadProgress::callback() {
  return [this](const std::string& file, uint64_t done, uint64_t total) {
    const double part = total > 0 ? double(done) / double(total) : 1;
    line_.show(fmt::format("{} [{}] {:.1f} / {:.1f} MB", file, bar(part), double(done) / 1e6, double(total) / 1e6),
               done == total);
    if (done == total) line_.clear();
  };
}

std::function<void(int, int)> PrefillProgress::callback() {
  return [this](int processed, int total) {
    const auto now = std::chrono::steady_clock::now();
    if (processed == 0) start_ = now;
    if (processed >= total) {
      line_.clear();
    } else if (now - start_ > std::chrono::milliseconds(500)) {
      line_.show(fmt::format("prompt [{}] {} / {} tokens", bar(double(processed) / total), processed, total));
    }
  };
}

}  // namespace mlx_lm::cli
