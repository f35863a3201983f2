// UTF-8 that may be broken.
#pragma once

#include <string>
#include <string_view>

namespace mlx_lm::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// The same text with each maximal ill-formed part replaced by U+FFFD, as the Unicode standard (3.9) and Python do.
std::string replace_invalid(std::string_view bytes);

// Offset of the first byte that belongs to no well-formed character; npos if there is none.
size_t find_invalid(std::string_view bytes);

}  // namespace mlx_lm::text
