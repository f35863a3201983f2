// Conversations in files.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/generate/chat_session.h"

namespace mlx_lm::cli {

// {"mlx_lm_chat": 1, "model", "system": text or null, "messages": [{"role", "content", "reasoning_content",
// "tool_calls"}, ...], "settings": {name: number}}
struct SavedChat {
  std::string model;
  std::optional<std::string> system;
  std::vector<ChatTurn> turns;
  nlohmann::json settings = nlohmann::json::object();
};

// `~/` is the user's home. A file that is there already is replaced if it is a conversation. Errors: Error that names
// the file.
void save_chat(const std::string& file, const SavedChat& chat);

// Messages alternate, the user's first and the model's last; a system message may come before. Errors: Error that names
// the file and what is wrong with it, ConfigError for one that is no JSON.
SavedChat load_chat(const std::string& file);

}  // namespace mlx_lm::cli
