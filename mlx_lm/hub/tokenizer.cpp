#include "mlx_lm/hub/tokenizer.h"

#include <algorithm>
#include <cstdint>

#include "mlx_lm/hub/bridge.h"

namespace mlx_lm {

using bridge::bytes;
using bridge::call;

struct Tokenizer::Handle {
  rust::Box<bridge::BridgeTokenizer> inner;
};

const bridge::BridgeTokenizer& Tokenizer::inner() const { return *handle_->inner; }

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  return call<Error>([&] {
    return Tokenizer(std::make_shared<const Handle>(Handle{bridge::tokenizer_from_file(bytes(path.native()))}));
  });
}

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view where) {
  return call<Error>([&] {
    return Tokenizer(std::make_shared<const Handle>(Handle{bridge::tokenizer_from_json(bytes(json), bytes(where))}));
  });
}

Tokenizer Tokenizer::from_byte_pairs(const BytePairs& parts, std::string_view where) {
  bridge::Joined tokens(parts.tokens.size()), merges(2 * parts.merges.size());
  for (const auto token : parts.tokens) tokens.add(token);
  for (const auto& [left, right] : parts.merges) merges.add(left), merges.add(right);
  std::vector<uint32_t> added;
  std::string special;  // not vector<bool>, whose elements have no addresses
  for (const auto& token : parts.added) {
    added.push_back(uint32_t(std::min<size_t>(token.id, UINT32_MAX)));
    special += char(token.special);
  }
  const bridge::BytePairs all{.shell = bytes(parts.shell),
                              .tokens = tokens.view(),
                              .merges = merges.view(),
                              .added = {added.data(), added.size()},
                              .special = {reinterpret_cast<const bool*>(special.data()), special.size()}};
  return call<Error>([&] {
    return Tokenizer(std::make_shared<const Handle>(Handle{bridge::tokenizer_from_byte_pairs(all, bytes(where))}));
  });
}

std::vector<int> Tokenizer::encode(std::string_view text, bool special) const {
  return call<RequestError>([&] {
    const auto ids = handle_->inner->encode(bytes(text), special);
    return std::vector<int>(ids.begin(), ids.end());
  });
}

std::string Tokenizer::decode(std::span<const int> ids, bool skip_special) const {
  return call<RequestError>([&] {
    return std::string(handle_->inner->decode(rust::Slice<const int32_t>(ids.data(), ids.size()), skip_special));
  });
}

std::optional<int> Tokenizer::token_to_id(std::string_view token) const {
  const int id = call<Error>([&] { return handle_->inner->token_to_id(bytes(token)); });
  return id < 0 ? std::nullopt : std::optional(id);
}

std::optional<std::string> Tokenizer::id_to_token(int id) const {
  const auto found = call<Error>([&] { return handle_->inner->id_to_token(id); });
  return found.empty() ? std::nullopt : std::optional(std::string(found[0]));
}

int Tokenizer::vocab_size() const { return handle_->inner->vocab_size(); }

std::vector<std::string> Tokenizer::vocabulary() const {
  const auto tokens = call<Error>([&] { return handle_->inner->vocabulary(); });
  return {tokens.begin(), tokens.end()};
}

std::vector<std::string> Tokenizer::added_tokens(bool special) const {
  const auto tokens = call<Error>([&] { return handle_->inner->added_tokens(special); });
  return {tokens.begin(), tokens.end()};
}

std::string Tokenizer::decoder_json() const {
  return call<Error>([&] { return std::string(handle_->inner->decoder_json()); });
}

}  // namespace mlx_lm
