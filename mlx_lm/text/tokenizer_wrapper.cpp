#include "mlx_lm/text/tokenizer_wrapper.h"

#include <algorithm>
#include <charconv>

#include "mlx_lm/base/error.h"
#include "mlx_lm/hub/chat_template.h"
#include "mlx_lm/text/utf8.h"

namespace mlx_lm::text {
namespace {

using nlohmann::json;

// The text of a special token, which tokenizer_config.json gives as a text or as {"content": text, ...}.
std::optional<std::string> token_text(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && found->at("content").is_string()) {
    return found->at("content").get<std::string>();
  }
  return std::nullopt;
}

// `chat_template` is a text, or a list of {"name", "template"} of which "default" is meant.
std::string template_of(const json& config, const std::string& where) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const auto& entry : *found) {
      if (entry.is_object() && entry.value("name", json()) == "default" && entry.contains("template") &&
          entry.at("template").is_string()) {
        return entry.at("template").get<std::string>();
      }
    }
  }
  fail<ConfigError>("[tokenizer] {}: chat_template: expected a text or a list with one named default, found neither",
                    where);
}

// Source: mlx-lm's _infer_tool_parser and load.
const ToolFormat* tool_format_of(const json& config, const std::string& chat_template, const Tokenizer& tokenizer,
                                 const std::string& where) {
  if (const auto name = config.find("tool_parser_type"); name != config.end() && !name->is_null()) {
    const auto* format = name->is_string() ? find_tool_format(name->get_ref<const std::string&>()) : nullptr;
    if (format) return format;
    std::string known;
    for (const auto& each : tool_formats()) known += (known.empty() ? "" : ", ") + std::string(each.name);
    fail<ConfigError>("[tokenizer] {}: tool_parser_type: expected one of {}, found {}", where, known, name->dump());
  }
  if (const auto* format = tool_format_of_template(chat_template)) return format;
  if (has_xtml(tokenizer)) return find_tool_format("kimi_k3");
  // The tokens alone: templates of some models do not write calls.
  const auto* format = find_tool_format("pythonic");
  const auto has = [&](std::string_view marker) { return tokenizer.token_to_id(marker).has_value(); };
  return has(format->start) && has(format->end) ? format : nullptr;
}

// Offset of the last place where `part` stands in ids; -1 if it stands nowhere.
std::ptrdiff_t rfind(std::span<const int> ids, const std::vector<int>& part) {
  const auto found = std::find_end(ids.begin(), ids.end(), part.begin(), part.end());
  return found == ids.end() ? -1 : found - ids.begin();
}

// Marks the end of the last message's text, so that it is found again in what the template writes.
// Source: transformers 5, render_jinja_template.
constexpr std::string_view kTag = "CONTINUE_FINAL_MESSAGE_TAG ";

nlohmann::ordered_json tagged(nlohmann::ordered_json messages) {
  auto& last = messages.back();
  auto* content = last.is_object() && last.contains("content") ? &last["content"] : nullptr;
  if (content && content->is_array()) {
    const auto block = std::find_if(content->rbegin(), content->rend(),
                                    [](const auto& b) { return b.is_object() && b.contains("text"); });
    content = block == content->rend() ? nullptr : &(*block)["text"];
  }
  if (!content || !content->is_string()) {
    fail<RequestError>("[tokenizer] messages: expected a text to continue in the last one, found none");
  }
  content->get_ref<std::string&>() += kTag;
  return messages;
}

std::string before_tag(std::string rendered) {
  const auto end = rendered.rfind(kTag.substr(0, kTag.size() - 1));
  if (end == rendered.npos) {
    fail<RequestError>("[tokenizer] the chat template leaves out the last message, so it cannot be continued");
  }
  const bool trimmed = !std::string_view(rendered).substr(end).starts_with(kTag);
  rendered.resize(end);
  // A template that trims messages leaves no white space at their end.
  if (trimmed) rendered.resize(rendered.find_last_not_of(" \t\r\n") + 1);
  return rendered;
}

}  // namespace

TokenizerWrapper::TokenizerWrapper(Parts parts)
    : tokenizer_(std::move(parts.tokenizer)),
      decoder_(json::parse(tokenizer_.decoder_json())),
      where_(std::move(parts.where)),
      eos_token_ids_(std::move(parts.eos_token_ids)),
      template_source_(std::move(parts.chat_template)),
      special_tokens_(json::object()) {
  const auto& config = parts.config;
  if (!config.is_object()) fail<ConfigError>("[tokenizer] {}: tokenizer_config.json: expected an object", where_);
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (auto text = token_text(config, key)) special_tokens_[key] = *text;
  }
  bos_token_ = token_text(config, "bos_token");
  eos_token_ = token_text(config, "eos_token");
  if (eos_token_) {
    if (auto id = tokenizer_.token_to_id(*eos_token_)) eos_token_ids_.insert(*id);
  }
  if (template_source_.empty()) template_source_ = template_of(config, where_);
  thinking_ = find_thinking(tokenizer_);
  tool_format_ = tool_format_of(config, template_source_, tokenizer_, where_);
  if (tool_format_) {
    tool_calling_ = Markers::of(tokenizer_, std::string(tool_format_->start), std::string(tool_format_->end));
  }
  if (has_xtml(tokenizer_)) {
    structural_markers_ = {"<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"};
  }
}

std::vector<int> TokenizerWrapper::encode(const std::string& text, bool add_special_tokens) const {
  if (const auto at = find_invalid(text); at != std::string::npos) {
    fail<RequestError>("[tokenizer] prompt: expected UTF-8, found an invalid byte at {}", at);
  }
  return tokenizer_.encode(text, add_special_tokens);
}

std::string TokenizerWrapper::decode(std::span<const int> ids, bool skip_special_tokens) const {
  return tokenizer_.decode(ids, skip_special_tokens);
}

std::unique_ptr<Detokenizer> TokenizerWrapper::detokenizer() const { return make_detokenizer(tokenizer_, decoder_); }

std::string TokenizerWrapper::apply_chat_template(const nlohmann::ordered_json& messages,
                                                  const ChatOptions& options) const {
  if (!has_chat_template()) fail<RequestError>("[tokenizer] {}: expected a chat template, found none", where_);
  if (!messages.is_array() || messages.empty())
    fail<RequestError>("[tokenizer] messages: expected at least one, found none");
  nlohmann::ordered_json context = special_tokens_;
  if (options.continue_final_message && options.add_generation_prompt) {
    fail<RequestError>("[tokenizer] continue_final_message: expected without add_generation_prompt, found both");
  }
  context["messages"] = options.continue_final_message ? tagged(messages) : messages;
  context["tools"] = options.tools;
  context["documents"] = nullptr;
  context["add_generation_prompt"] = options.add_generation_prompt;
  context["enable_thinking"] = has_thinking();
  for (const auto& [key, value] : options.extra.items()) context[key] = value;
  std::string variables;
  try {
    variables = context.dump();  // checks the encoding: a prompt that is damaged is refused, not changed
  } catch (const json::exception&) {
    fail<RequestError>("[tokenizer] messages: expected UTF-8, found other bytes");
  }
  auto rendered = ChatTemplate(template_source_, where_).render_json(variables);
  return options.continue_final_message ? before_tag(std::move(rendered)) : rendered;
}

bool TokenizerWrapper::ends_in_thinking(std::span<const int> prompt) const {
  return thinking_ && rfind(prompt, thinking_->start_ids) > rfind(prompt, thinking_->end_ids);
}

void TokenizerWrapper::add_eos_token(const std::string& token) {
  int id = 0;
  const char* end = token.data() + token.size();
  const auto [rest, error] = std::from_chars(token.data(), end, id);
  if (error == std::errc() && rest == end) {
    eos_token_ids_.insert(id);
  } else if (auto found = tokenizer_.token_to_id(token)) {
    eos_token_ids_.insert(*found);
  } else {
    fail<RequestError>("[tokenizer] {}: expected a token of this tokenizer or a number, found '{}'", where_, token);
  }
}

}  // namespace mlx_lm::text
