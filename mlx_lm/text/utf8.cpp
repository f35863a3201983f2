#include "mlx_lm/text/utf8.h"

#include <cstdint>

namespace mlx_lm::text {
namespace {

// Length of the well-formed character at the start of s (not empty), or minus the length of the ill-formed part there.
int character(std::string_view s) {
  const auto byte = [&](size_t i) { return i < s.size() ? uint8_t(s[i]) : uint8_t(0); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const int length = lead >= 0xC2 && lead <= 0xDF   ? 2
                     : (lead & 0xF0) == 0xE0        ? 3
                     : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                    : 0;
  if (length == 0) return -1;
  // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return -1;
  for (int i = 2; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return -i;
  }
  return length;
}

}  // namespace

std::string replace_invalid(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const int n = character(bytes);
    out += n > 0 ? bytes.substr(0, n) : kReplacement;
    bytes.remove_prefix(n > 0 ? n : -n);
  }
  return out;
}

size_t find_invalid(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const int n = character(bytes.substr(at));
    if (n < 0) return at;
    at += n;
  }
  return std::string_view::npos;
}

}  // namespace mlx_lm::text
