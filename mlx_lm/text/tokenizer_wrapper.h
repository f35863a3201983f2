// A tokenizer with what generation needs around it: end tokens, chat template, detokenizer.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/hub/tokenizer.h"
#include "mlx_lm/text/detokenizer.h"
#include "mlx_lm/text/markers.h"
#include "mlx_lm/text/tool_parsers.h"

namespace mlx_lm::text {

// Source: mlx-lm's TokenizerWrapper. Threads: const members are safe to use from several.
class TokenizerWrapper {
 public:
  struct Parts {
    Tokenizer tokenizer;
    nlohmann::json config = nlohmann::json::object();  // tokenizer_config.json
    std::string chat_template;                         // empty: the one in config, if any
    std::set<int> eos_token_ids;                       // those of the model's configuration
    std::string where;                                 // the folder or file, for errors
  };
  // Errors: ConfigError for a tokenizer_config.json or a template that makes no sense, and for a tool_parser_type that
  // is not known here.
  explicit TokenizerWrapper(Parts parts);

  // add_special_tokens: put the tokens before and after that the tokenizer's post-processor asks for (BOS and the
  // like). Errors: RequestError for text that is not UTF-8.
  std::vector<int> encode(const std::string& text, bool add_special_tokens = true) const;
  std::string decode(std::span<const int> ids, bool skip_special_tokens = false) const;
  std::unique_ptr<Detokenizer> detokenizer() const;

  bool has_chat_template() const { return !template_source_.empty(); }

  struct ChatOptions {
    bool add_generation_prompt = true;       // end with the marker of the assistant's turn
    bool continue_final_message = false;     // leave the last message open instead; not with the above
    nlohmann::ordered_json tools = nullptr;  // a list of JSON schemas, or null
    // More variables; enable_thinking is has_thinking() if it is not here.
    nlohmann::ordered_json extra = nlohmann::ordered_json::object();
  };
  // The messages ([{"role": ..., "content": ...}, ...]) as the model's text. Keys keep their order.
  // Errors: RequestError when there is no template or it refuses the messages.
  std::string apply_chat_template(const nlohmann::ordered_json& messages, const ChatOptions& options) const;

  // How the model marks its reasoning, if it does: by tokens of the vocabulary.
  bool has_thinking() const { return thinking_.has_value(); }
  const std::optional<Markers>& thinking() const { return thinking_; }
  // Whether the last block of reasoning that a prompt begins has no end in it.
  bool ends_in_thinking(std::span<const int> prompt) const;

  // How the model calls tools, if it does: by tool_parser_type, else by what the chat template shows.
  bool has_tool_calling() const { return tool_format_ != nullptr; }
  const ToolFormat* tool_format() const { return tool_format_; }
  const std::optional<Markers>& tool_calling() const { return tool_calling_; }

  // Markers around the answer's text that are no part of it.
  const std::vector<std::string>& structural_markers() const { return structural_markers_; }

  const std::set<int>& eos_token_ids() const { return eos_token_ids_; }
  // A token's text or its number. Errors: RequestError for one that is not in the vocabulary.
  void add_eos_token(const std::string& token);

  const std::optional<std::string>& bos_token() const { return bos_token_; }
  const std::optional<std::string>& eos_token() const { return eos_token_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  Tokenizer tokenizer_;
  nlohmann::json decoder_;
  std::string where_;
  std::optional<std::string> bos_token_, eos_token_;
  std::set<int> eos_token_ids_;
  std::string template_source_;
  std::optional<Markers> thinking_, tool_calling_;
  const ToolFormat* tool_format_ = nullptr;
  std::vector<std::string> structural_markers_;
  nlohmann::json special_tokens_;  // the names that templates may use: bos_token, eos_token, ...
};

}  // namespace mlx_lm::text
