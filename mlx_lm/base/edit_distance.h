// Which of the known names a wrong one was meant to be.
#pragma once

#include <span>
#include <string_view>

namespace mlx_lm {

// Levenshtein's: single letters to add, drop or change. Time: the product of the lengths.
int edit_distance(std::string_view a, std::string_view b);

// The name at the least distance; of several the first. Requires names. Only the first 64 letters of `found` count.
std::string_view nearest(std::string_view found, std::span<const std::string_view> names);

}  // namespace mlx_lm
