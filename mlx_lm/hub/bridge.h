// The border to rust/, for the files of this folder only.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_lm/base/error.h"

#include "mlx_lm_bridge/src/lib.rs.h"

namespace mlx_lm::bridge {

inline rust::Slice<const uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Strings one after the other, as they cross the border.
struct Joined {
  std::string text;
  std::vector<size_t> ends;

  explicit Joined(size_t count) {
    text.reserve(8 * count);
    ends.reserve(count);
  }
  void add(std::string_view more) {
    text += more;
    ends.push_back(text.size());
  }
  Strings view() const { return {bytes(text), {ends.data(), ends.size()}}; }
};

// Runs a call into Rust; its error, already worded as ours are, becomes an E.
template <class E, class F>
auto call(F&& f) {
  try {
    return f();
  } catch (const rust::Error& error) {
    throw E(error.what());
  }
}

}  // namespace mlx_lm::bridge
