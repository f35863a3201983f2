// The parsers of tool_parsers.cpp's table, one per format. What a function takes and throws: ToolFormat::parse.
#pragma once

#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/text/tool_parsers.h"

namespace mlx_lm::text::formats {

using Calls = std::vector<ToolCall>;
using Tools = nlohmann::json;

// tool_json.cpp
Calls json_tools(std::string_view text, const Tools& tools);
Calls kimi_k2(std::string_view text, const Tools& tools);
Calls mistral(std::string_view text, const Tools& tools);
// tool_gemma.cpp
Calls gemma4(std::string_view text, const Tools& tools);
Calls function_gemma(std::string_view text, const Tools& tools);
// tool_pairs.cpp
Calls glm47(std::string_view text, const Tools& tools);
Calls longcat(std::string_view text, const Tools& tools);
// tool_pythonic.cpp
Calls pythonic(std::string_view text, const Tools& tools);
// tool_xml.cpp
Calls minimax_m2(std::string_view text, const Tools& tools);
Calls minicpm5(std::string_view text, const Tools& tools);
Calls muse_spark(std::string_view text, const Tools& tools);
Calls kimi_k3(std::string_view text, const Tools& tools);
// tool_qwen3_coder.cpp
Calls qwen3_coder(std::string_view text, const Tools& tools);

}  // namespace mlx_lm::text::formats
