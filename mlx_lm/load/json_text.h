// JSON strings, appended to a text.
#pragma once

#include <string>
#include <string_view>

namespace mlx_lm {

// Appends `text` as a JSON string, quotes included. False (and a part appended) if it is not UTF-8.
bool append_json_string(std::string& out, std::string_view text);

}  // namespace mlx_lm
