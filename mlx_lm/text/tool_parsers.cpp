#include "mlx_lm/text/tool_parsers.h"

#include "mlx_lm/text/tool_formats.h"

namespace mlx_lm::text {
namespace {

constexpr ToolFormat kFormats[] = {
    {"function_gemma", "<start_function_call>", "<end_function_call>", formats::function_gemma},
    {"gemma4", "<|tool_call>", "<tool_call|>", formats::gemma4},
    {"glm47", "<tool_call>", "</tool_call>", formats::glm47},
    {"json_tools", "<tool_call>", "</tool_call>", formats::json_tools},
    {"kimi_k2", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", formats::kimi_k2},
    {"kimi_k3", "<|open|>tools<|sep|>", "<|close|>tools<|sep|>", formats::kimi_k3},
    {"laguna", "<tool_call>", "</tool_call>", formats::glm47},
    {"longcat", "<longcat_tool_call>", "</longcat_tool_call>", formats::longcat},
    {"minicpm5", "<function name=", "</function>", formats::minicpm5},
    {"minimax_m2", "<minimax:tool_call>", "</minimax:tool_call>", formats::minimax_m2},
    {"mistral", "[TOOL_CALLS]", "", formats::mistral},
    {"muse_spark", "<atem:function_calls>", "</atem:function_calls>", formats::muse_spark},
    {"pythonic", "<|tool_call_start|>", "<|tool_call_end|>", formats::pythonic},
    {"qwen3_coder", "<tool_call>", "</tool_call>", formats::qwen3_coder},
};

// A template shows the format of the first row whose texts it holds.
struct Sign {
  std::string_view text, also, format;
};
constexpr Sign kSigns[] = {
    {"<minimax:tool_call>", "", "minimax_m2"},
    {"<|tool_call>", "<tool_call|>", "gemma4"},
    {"<start_function_call>", "", "function_gemma"},
    {"<longcat_tool_call>", "", "longcat"},
    {"<arg_key>", "", "glm47"},
    {"<|tool_list_start|>", "", "pythonic"},
    {"<|tool_call_start|>", "", "pythonic"},
    {"<tool_call>\\n<function=", "", "qwen3_coder"},  // in a text of the template's own
    {"<tool_call>\n<function=", "", "qwen3_coder"},
    {"<|tool_calls_section_begin|>", "", "kimi_k2"},
    {"<function name=\"", "<param name=\"", "minicpm5"},
    {"[TOOL_CALLS]", "", "mistral"},
    {"<atem:function_calls>", "", "muse_spark"},
    {"<tool_call>", "tool_call.name", "json_tools"},
};

}  // namespace

std::span<const ToolFormat> tool_formats() { return kFormats; }

const ToolFormat* find_tool_format(std::string_view name) {
  for (const auto& format : kFormats) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

const ToolFormat* tool_format_of_template(std::string_view chat_template) {
  const auto holds = [&](std::string_view text) { return chat_template.find(text) != chat_template.npos; };
  for (const auto& sign : kSigns) {
    if (holds(sign.text) && holds(sign.also)) return find_tool_format(sign.format);
  }
  return nullptr;
}

}  // namespace mlx_lm::text
