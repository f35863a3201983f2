#include "mlx_lm/load/json_text.h"

#include <cstdint>

namespace mlx_lm {
namespace {

// Bytes of the UTF-8 character at the start of the text; 0 if there is none. The second byte's range shuts out
// overlong forms, surrogates and what lies beyond U+10FFFF.
size_t character_size(std::string_view text) {
  auto byte = [&](size_t i) { return i < text.size() ? uint8_t(text[i]) : uint8_t(0); };
  auto follows = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const uint8_t first = byte(0), second = byte(1);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4 || !follows(1)) return 0;
  if (first < 0xe0) return 2;
  if (first < 0xf0) {
    const bool bad = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f);
    return bad || !follows(2) ? 0 : 3;
  }
  const bool bad = (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return bad || !follows(2) || !follows(3) ? 0 : 4;
}

}  // namespace

bool append_json_string(std::string& out, std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (size_t i = 0; i < text.size();) {
    const auto c = uint8_t(text[i]);
    if (c < 0x20) {
      out += "\\u00";
      out += kHex[c >> 4];
      out += kHex[c & 15];
      ++i;
    } else if (c < 0x80) {
      if (c == '"' || c == '\\') out += '\\';
      out += char(c);
      ++i;
    } else {
      const size_t size = character_size(text.substr(i));
      if (size == 0) return false;
      out.append(text, i, size);
      i += size;
    }
  }
  out += '"';
  return true;
}

}  // namespace mlx_lm
