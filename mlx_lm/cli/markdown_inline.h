// What stands within a line of Markdown: emphasis, code, links.
#pragma once

#include <string_view>

#include "mlx_lm/cli/terminal_text.h"

namespace mlx_lm::cli {

// Writes the beginning of a line, as far as it is decided, and returns how many letters that was. before: the letter in
// front of it, 0 at the beginning. final: the line ends there, so that all of it is decided; what nothing closes is
// written as it is. Without it at most kMaxHeld letters are left over.
size_t write_inline(std::u32string_view line, char32_t before, bool final, unsigned style, Layout& out);

// An opening sign waits so long for the one that closes it. Time and memory of a letter are bounded by it too.
inline constexpr size_t kMaxHeld = 300;

}  // namespace mlx_lm::cli
