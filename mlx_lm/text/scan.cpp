#include "mlx_lm/text/scan.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

#include "mlx_lm/text/utf8.h"

namespace mlx_lm::text {

size_t space_at(std::string_view text) {
  if (text.empty()) return 0;
  const uint8_t c = uint8_t(text[0]);
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) ? 1 : 0;
  const auto next = text.substr(0, 2);
  if (next == "\u0085" || next == "\u00A0") return 2;
  const auto three = text.substr(0, 3);
  for (std::string_view space : {"\u1680", "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"}) {
    if (three == space) return 3;
  }
  return three >= "\u2000" && three <= "\u200A" && three.size() == 3 ? 3 : 0;
}

std::string_view strip_left(std::string_view text) {
  while (const auto n = space_at(text)) text.remove_prefix(n);
  return text;
}

std::string_view strip_right(std::string_view text) {
  for (bool found = true; found;) {
    found = false;
    for (size_t n = 1; n <= std::min<size_t>(3, text.size()) && !found; ++n) {
      found = space_at(text.substr(text.size() - n)) == n;
      if (found) text.remove_suffix(n);
    }
  }
  return text;
}

std::string_view strip(std::string_view text) { return strip_right(strip_left(text)); }

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || uint8_t(c) >= 0x80;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  return out;
}

std::optional<Block> next_block(std::string_view text, std::string_view open, std::string_view close, size_t from) {
  const auto begin = text.find(open, from);
  if (begin == text.npos) return std::nullopt;
  const auto inside = begin + open.size();
  const auto end = text.find(close, inside);
  if (end == text.npos) return std::nullopt;
  return Block{text.substr(inside, end - inside), begin, end + close.size()};
}

std::string excerpt(std::string_view text) {
  constexpr size_t kBytes = 60;
  if (text.empty()) return "nothing";
  auto shown = replace_invalid(text.substr(0, kBytes));
  while (text.size() > kBytes && shown.ends_with(kReplacement)) shown.resize(shown.size() - kReplacement.size());
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return uint8_t(c) < 0x20 || c == 0x7F; }, ' ');
  return fmt::format("'{}{}'", shown, text.size() > kBytes ? "..." : "");
}

}  // namespace mlx_lm::text
