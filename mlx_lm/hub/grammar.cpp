#include "mlx_lm/hub/grammar.h"

#include <algorithm>
#include <mutex>

#include "mlx_lm/hub/bridge.h"

namespace mlx_lm {

using bridge::call;

struct GrammarTokens::Handle {
  Tokenizer tokenizer;
  int vocabulary;
  std::vector<int> ends;
  std::mutex mutex;
  std::optional<rust::Box<bridge::BridgeGrammarTokens>> inner;

  const bridge::BridgeGrammarTokens& get() {
    const std::lock_guard lock(mutex);
    if (!inner) {
      inner = call<RequestError>([&] {
        const auto size = uint32_t(std::max(vocabulary, 0));
        return bridge::grammar_tokens(tokenizer.inner(), size, {ends.data(), ends.size()});
      });
    }
    return **inner;
  }
};

GrammarTokens::GrammarTokens(Tokenizer tokenizer, int vocabulary, std::span<const int> end_tokens)
    : handle_(std::make_shared<Handle>(std::move(tokenizer), vocabulary,
                                       std::vector<int>(end_tokens.begin(), end_tokens.end()))) {}

int GrammarTokens::vocabulary() const { return handle_->vocabulary; }

void GrammarOptions::validate() const {
  const int found = json_schema.has_value() + json_object + regex.has_value() + lark.has_value() + !choice.empty();
  if (found == 1) return;
  fail<RequestError>("[grammar] options: expected one of json_schema, json_object, regex, lark and choice, found {}",
                     found ? "several" : "none");
}

struct Grammar::Handle {
  GrammarTokens tokens;
  rust::Box<bridge::BridgeGrammar> inner;
};

Grammar::Grammar(const GrammarTokens& tokens, const GrammarOptions& options) {
  options.validate();
  using bridge::GrammarKind;
  bridge::Joined source(options.choice.size() + 1);
  auto kind = GrammarKind::JsonSchema;
  if (!options.choice.empty()) {
    kind = GrammarKind::Choice;
    for (const auto& text : options.choice) source.add(text);
  } else if (options.regex) {
    kind = GrammarKind::Regex;
    source.add(*options.regex);
  } else if (options.lark) {
    kind = GrammarKind::Lark;
    source.add(*options.lark);
  } else {
    source.add(options.json_object ? R"({"type":"object"})" : std::string_view(*options.json_schema));
  }
  const bridge::GrammarRequest request{.kind = kind, .source = source.view(), .compact = options.compact};
  const auto& inner = tokens.handle_->get();
  handle_ = call<RequestError>([&] {
    return std::make_shared<const Handle>(Handle{tokens, bridge::grammar_new(inner, request)});
  });
}

struct GrammarMatcher::Handle {
  rust::Box<bridge::BridgeMatcher> inner;
};

GrammarMatcher Grammar::matcher() const {
  using Matcher = GrammarMatcher::Handle;
  return {std::make_unique<Matcher>(Matcher{handle_->inner->matcher()}), handle_->tokens.vocabulary()};
}

std::vector<std::string> Grammar::warnings() const {
  const auto all = handle_->inner->warnings();
  return {all.begin(), all.end()};
}

GrammarMatcher::GrammarMatcher(std::unique_ptr<Handle> handle, int vocabulary)
    : handle_(std::move(handle)), vocabulary_(vocabulary) {}
GrammarMatcher::GrammarMatcher(const GrammarMatcher& other)
    : handle_(std::make_unique<Handle>(Handle{other.handle_->inner->copy()})), vocabulary_(other.vocabulary_) {}
GrammarMatcher& GrammarMatcher::operator=(const GrammarMatcher& other) { return *this = GrammarMatcher(other); }
GrammarMatcher::GrammarMatcher(GrammarMatcher&&) noexcept = default;
GrammarMatcher& GrammarMatcher::operator=(GrammarMatcher&&) noexcept = default;
GrammarMatcher::~GrammarMatcher() = default;

void GrammarMatcher::mask(std::span<uint32_t> bits) {
  call<RequestError>([&] { handle_->inner->mask(rust::Slice<uint32_t>(bits.data(), bits.size())); });
}

bool GrammarMatcher::commit(int token) {
  return call<RequestError>([&] { return handle_->inner->commit(token); });
}

int GrammarMatcher::validate(std::span<const int> tokens) {
  return call<RequestError>([&] { return int(handle_->inner->validate({tokens.data(), tokens.size()})); });
}

void GrammarMatcher::rollback(int n) {
  if (n < 0) fail<RequestError>("[grammar] rollback: expected at least 0 tokens, found {}", n);
  call<RequestError>([&] { handle_->inner->rollback(size_t(n)); });
}

std::vector<int> GrammarMatcher::forced() {
  return call<RequestError>([&] {
    const auto tokens = handle_->inner->forced();
    return std::vector<int>(tokens.begin(), tokens.end());
  });
}

std::optional<std::vector<int>> GrammarMatcher::ending(int limit) const {
  return call<RequestError>([&]() -> std::optional<std::vector<int>> {
    const auto found = handle_->inner->ending(size_t(std::max(limit, 0)));
    if (found.empty()) return std::nullopt;
    return std::vector<int>(found[0].tokens.begin(), found[0].tokens.end());
  });
}

bool GrammarMatcher::accepts() {
  return call<RequestError>([&] { return handle_->inner->accepts(); });
}

bool GrammarMatcher::stopped() const { return handle_->inner->stopped(); }

}  // namespace mlx_lm
