#include "mlx_lm/cli/chat_settings.h"

#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/ranges.h>

#include "mlx_lm/base/edit_distance.h"
#include "mlx_lm/base/error.h"

namespace mlx_lm::cli {
namespace {

using nlohmann::json;

template <class Settings, class Visit>
void for_each(Settings& s, Visit&& visit) {
  visit("temp", s.sampler.temp);
  visit("top-p", s.sampler.top_p);
  visit("top-k", s.sampler.top_k);
  visit("min-p", s.sampler.min_p);
  visit("min-tokens-to-keep", s.sampler.min_tokens_to_keep);
  visit("xtc-probability", s.sampler.xtc_probability);
  visit("xtc-threshold", s.sampler.xtc_threshold);
  visit("seed", s.sampler.seed);
  visit("max-tokens", s.max_tokens);
  visit("repetition-penalty", s.penalties.repetition_penalty);
  visit("repetition-context-size", s.penalties.repetition_context_size);
  visit("presence-penalty", s.penalties.presence_penalty);
  visit("presence-context-size", s.penalties.presence_context_size);
  visit("frequency-penalty", s.penalties.frequency_penalty);
  visit("frequency-context-size", s.penalties.frequency_context_size);
}

template <class T>
bool parse(const std::string& text, T& value) {
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last) return false;
  if constexpr (std::is_floating_point_v<T>) return std::isfinite(value);
  return true;
}

bool parse(const std::string& text, std::optional<uint64_t>& value) {
  if (text == "none") {
    value.reset();
    return true;
  }
  return parse(text, value.emplace());
}

template <class T>
std::string show(const T& value) {
  return fmt::format("{}", value);
}
std::string show(const std::optional<uint64_t>& value) { return value ? show(*value) : "none"; }

template <class T>
const char* kind_of(const T&) {
  return std::is_floating_point_v<T> ? "a number" : "a whole number";
}
const char* kind_of(const std::optional<uint64_t>&) { return "a whole number from 0 to 2^64 - 1, or none"; }

[[noreturn]] void fail_unknown(const std::string& name) {
  const auto known = ChatSettings::names();
  fail<RequestError>("[chat] set: expected one of {}; found {}; did you mean {}?", fmt::join(known, ", "),
                     name.substr(0, 60), nearest(name, known));
}

void check(const ChatSettings& s) {
  if (s.max_tokens == 0 || s.max_tokens < -1) {
    fail<RequestError>("[chat] max-tokens: expected 1 or more, or -1 for no limit, found {}", s.max_tokens);
  }
  s.sampler.validate();
  s.penalties.validate();
}

}  // namespace

std::vector<std::string_view> ChatSettings::names() {
  std::vector<std::string_view> names;
  ChatSettings settings;
  for_each(settings, [&](const char* name, auto&) { names.push_back(name); });
  return names;
}

void ChatSettings::set(const std::string& name, const std::string& value) {
  auto changed = *this;
  bool found = false;
  for_each(changed, [&](std::string_view each, auto& field) {
    if (each != name) return;
    found = true;
    if (!parse(value, field)) {
      fail<RequestError>("[chat] {}: expected {}, found '{}'", name, kind_of(field), value.substr(0, 60));
    }
  });
  if (!found) fail_unknown(name);
  check(changed);
  *this = std::move(changed);
}

std::string ChatSettings::get(const std::string& name) const {
  std::optional<std::string> value;
  for_each(*this, [&](std::string_view each, const auto& field) {
    if (each == name) value = show(field);
  });
  if (!value) fail_unknown(name);
  return *value;
}

json ChatSettings::to_json() const {
  auto values = json::object();
  for_each(*this, [&](const char* name, const auto& field) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(field)>>) {
      values[name] = json::parse(show(field));  // 0.7 and not 0.699999988079071
    } else {
      values[name] = field ? json(*field) : json(nullptr);
    }
  });
  return values;
}

void ChatSettings::set_all(const json& values) {
  auto changed = *this;
  for (const auto& [name, value] : values.items()) {
    if (!value.is_number() && !value.is_null()) {
      fail<RequestError>("[chat] {}: expected a number, found a {}", name.substr(0, 60), value.type_name());
    }
    changed.set(name, value.is_null() ? "none" : value.dump());
  }
  *this = std::move(changed);
}

StepOptions ChatSettings::options(const text::TokenizerWrapper& tokenizer, int vocab_size) const {
  check(*this);
  penalties.validate(vocab_size);
  StepOptions options{.max_tokens = max_tokens, .logits_processors = sample::make_logits_processors(penalties)};
  if (sampler.temp > 0) {
    auto with_tokens = sampler;
    with_tokens.xtc_special_tokens = tokenizer.encode("\n");
    with_tokens.xtc_special_tokens.insert(with_tokens.xtc_special_tokens.end(), tokenizer.eos_token_ids().begin(),
                                          tokenizer.eos_token_ids().end());
    options.sampler = sample::make_sampler(with_tokens);
  }
  return options;
}

}  // namespace mlx_lm::cli
