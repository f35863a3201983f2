#include "mlx_lm/text/detokenizer.h"

#include <array>
#include <charconv>
#include <optional>

#include "mlx_lm/text/utf8.h"

namespace mlx_lm::text {
namespace {

// A token's text with each letter of GPT-2's alphabet turned back into the byte it stands for.
// Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py
class ByteAlphabet {
 public:
  ByteAlphabet() {
    code_points_.fill(-1);
    int extra = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool shown = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      code_points_[shown ? byte : extra++] = byte;
    }
  }

  std::string to_bytes(std::string_view token) const {
    std::string bytes;
    for (size_t i = 0; i < token.size();) {
      const auto lead = uint8_t(token[i]);
      // All letters of the alphabet are below U+0144: one or two bytes.
      const bool two = (lead & 0xE0) == 0xC0 && i + 1 < token.size();
      const int point = two ? (lead & 0x1F) << 6 | (token[i + 1] & 0x3F) : lead;
      if ((two || lead < 0x80) && point < int(code_points_.size()) && code_points_[point] >= 0) {
        bytes += char(code_points_[point]);
        i += two ? 2 : 1;
      } else {  // an added token's own letter
        do bytes += token[i++];
        while (i < token.size() && (token[i] & 0xC0) == 0x80);
      }
    }
    return bytes;
  }

 private:
  std::array<int, 256 + 68> code_points_;
};

// One leading space is the tokenizer's, not the text's.
void trim_first(std::string& text, bool at_start) {
  if (at_start && text.starts_with(' ')) text.erase(0, 1);
}

class ByteLevelDetokenizer final : public Detokenizer {
 public:
  explicit ByteLevelDetokenizer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void add_token(int id) override {
    static const ByteAlphabet alphabet;
    // A model's vocabulary may be padded beyond the tokenizer's.
    const auto bytes = alphabet.to_bytes(tokenizer_.id_to_token(id).value_or("!"));
    held_ += bytes;
    const auto text = replace_invalid(held_);
    // A lone space waits for what follows it.
    if (!text.ends_with(kReplacement) && bytes != " ") flush(text);
  }

  void finalize() override { flush(replace_invalid(held_)); }

 private:
  void flush(std::string text) {
    trim_first(text, at_start_);
    at_start_ &= text.empty();
    ready_ += text;
    held_.clear();
  }

  const Tokenizer& tokenizer_;
  std::string held_;
  bool at_start_ = true;
};

// The byte that a token like <0x0A> stands for.
std::optional<uint8_t> byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  uint8_t byte = 0;
  const auto [rest, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  return error == std::errc() && rest == token.data() + 5 ? std::optional(byte) : std::nullopt;
}

class SentencePieceDetokenizer final : public Detokenizer {
 public:
  SentencePieceDetokenizer(const Tokenizer& tokenizer, bool trim) : tokenizer_(tokenizer), at_start_(trim) {}

  void add_token(int id) override {
    const auto token = tokenizer_.id_to_token(id).value_or("");
    if (const auto byte = byte_of(token)) {
      held_ += char(*byte);
    } else {
      held_ += token;
    }
    const auto text = readable();
    if (!text.ends_with(kReplacement)) flush(text);
  }

  void finalize() override { flush(readable()); }

 private:
  std::string readable() const {
    constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581
    std::string spaced;
    for (size_t i = 0; i < held_.size();) {
      const bool space = std::string_view(held_).substr(i).starts_with(kSpace);
      spaced += space ? ' ' : held_[i];
      i += space ? kSpace.size() : 1;
    }
    return replace_invalid(spaced);
  }

  void flush(std::string text) {
    trim_first(text, at_start_);
    at_start_ &= text.empty();
    ready_ += text;
    held_.clear();
  }

  const Tokenizer& tokenizer_;
  std::string held_;
  bool at_start_;
};

// Any other decoder: decodes the line so far again and again, and hands out what is new.
class LineDetokenizer final : public Detokenizer {
 public:
  explicit LineDetokenizer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void add_token(int id) override {
    line_.push_back(id);
    auto text = tokenizer_.decode(line_, /* skip_special */ false);
    while (text.ends_with(kReplacement)) text.resize(text.size() - kReplacement.size());
    hand_out(text);
    if (text.ends_with('\n')) start_line();
  }

  void finalize() override {
    hand_out(tokenizer_.decode(line_, /* skip_special */ false));
    start_line();
  }

 private:
  void hand_out(const std::string& text) {
    // A decoder may change what it has shown before; even then no character is cut.
    while (shown_ < text.size() && (text[shown_] & 0xC0) == 0x80) ++shown_;
    if (text.size() <= shown_) return;
    ready_ += text.substr(shown_);
    shown_ = text.size();
  }
  void start_line() {
    line_.clear();
    shown_ = 0;
  }

  const Tokenizer& tokenizer_;
  std::vector<int> line_;
  size_t shown_ = 0;  // bytes of the line handed out already
};

// The decoders that SentencePiece tokenizers are converted to.
nlohmann::json sentencepiece_decoder(bool strips) {
  auto decoder = nlohmann::json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]})");
  if (strips) decoder["decoders"].push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return decoder;
}

}  // namespace

std::unique_ptr<Detokenizer> make_detokenizer(const Tokenizer& tokenizer, const nlohmann::json& decoder) {
  if (decoder == sentencepiece_decoder(true)) return std::make_unique<SentencePieceDetokenizer>(tokenizer, true);
  if (decoder == sentencepiece_decoder(false)) return std::make_unique<SentencePieceDetokenizer>(tokenizer, false);
  if (decoder.is_object() && decoder.value("type", "") == "ByteLevel")
    return std::make_unique<ByteLevelDetokenizer>(tokenizer);
  return std::make_unique<LineDetokenizer>(tokenizer);
}

}  // namespace mlx_lm::text
