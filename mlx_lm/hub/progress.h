// How the Rust side tells a download's progress. For rust/ and download.cpp only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "rust/cxx.h"

namespace mlx_lm::bridge {

class Progress {
 public:
  using Callback = std::function<void(const std::string& file, uint64_t done, uint64_t total)>;
  explicit Progress(const Callback& callback) : callback_(callback) {}

  void report(rust::Str file, uint64_t done, uint64_t total) const {
    if (callback_) callback_(std::string(file), done, total);
  }

 private:
  const Callback& callback_;
};

}  // namespace mlx_lm::bridge
