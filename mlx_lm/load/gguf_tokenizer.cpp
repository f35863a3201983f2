#include "mlx_lm/load/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/json_text.h"
#include "mlx_lm/load/sentencepiece_merges.h"
#include "mlx_lm/text/utf8.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

enum TokenType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

// Splits for Hugging Face's `Split` (regular expressions of Oniguruma). Each pattern is applied to the pieces that the
// one before it left. Source: llama-vocab.cpp of llama.cpp, and the tokenizer.json files of the models themselves.
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
constexpr const char* kGpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
constexpr const char* kLlama3 = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" REST;
constexpr const char* kQwen2 = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" REST;
constexpr const char* kTekken =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
#undef CONTRACTIONS
#undef REST

struct PreTokenizer {
  std::string_view name;  // tokenizer.ggml.pre
  std::array<const char*, 4> splits;
  bool ignore_merges = false;  // a word that is a token stays whole, whatever the merges say
  bool nfc = false;
  bool add_bos = false;  // unless tokenizer.ggml.add_bos_token says otherwise
};

constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt-2", {kGpt2}},
    {"smollm", {"\\p{N}", kGpt2}},
    {"starcoder", {"\\p{N}", kGpt2}},
    {"llama-bpe", {kLlama3}, true, false, true},
    {"llama3", {kLlama3}, true, false, true},
    {"llama-v3", {kLlama3}, true, false, true},
    {"qwen2", {kQwen2}, false, true},
    {"deepseek-r1-qwen", {kQwen2}, false, true},
    {"tekken", {kTekken}, true, false, true},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", kGpt2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

const PreTokenizer& find_pre_tokenizer(const GgufFile& file) {
  auto name = file.find_string("tokenizer.ggml.pre").value_or("default");
  auto found = std::ranges::find(kPreTokenizers, name, &PreTokenizer::name);
  if (found != std::end(kPreTokenizers)) return *found;
  std::string known;
  for (const auto& pre : kPreTokenizers) known += (known.empty() ? "" : ", ") + std::string(pre.name);
  fail<UnsupportedModel>("[gguf] {}: tokenizer.ggml.pre: expected one of {}, found {}", file.where(), known,
                         shown(name));
}

// The end of tokenizer.json, where the model's tokens and merges would be.
constexpr std::string_view kNoVocabulary = R"("vocab":{},"merges":[]})";

class Converter {
 public:
  explicit Converter(const GgufFile& file) : file_(file), where_(file.where()) {
    tokens_ = required_strings("tokenizer.ggml.tokens");
    if (tokens_.empty()) fail<WeightError>("[gguf] {}: tokenizer.ggml.tokens: expected tokens, found none", where_);
    types_ = file_.find_ints("tokenizer.ggml.token_type").value_or(std::vector<int64_t>(tokens_.size(), kNormal));
    expect_one_each("tokenizer.ggml.token_type", types_.size());
  }

  GgufTokenizer convert() {
    auto model = file_.find_string("tokenizer.ggml.model").value_or("");
    if (model != "gpt2" && model != "llama") {
      fail<UnsupportedModel>("[gguf] {}: tokenizer.ggml.model: expected gpt2 or llama, found {}", where_, shown(model));
    }
    bytes_ = model == "gpt2";
    for (auto token : tokens_) expect_utf8(token);
    out_ += R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[],)";
    add_added_tokens();
    if (bytes_) {
      add_byte_level(find_pre_tokenizer(file_));
    } else {
      add_sentencepiece();
    }
    out_ += "}";
    auto config = settings();
    parts_.shell = std::move(out_);
    parts_.tokens = std::move(tokens_);
    return {std::move(parts_), std::move(config)};
  }

 private:
  std::vector<std::string_view> required_strings(const char* key) const {
    auto found = file_.find_strings(key);
    if (!found) fail<WeightError>("[gguf] {}: {}: expected an array of strings, found nothing", where_, key);
    return *std::move(found);
  }

  void expect_one_each(const char* key, size_t count) const {
    if (count == tokens_.size()) return;
    fail<WeightError>("[gguf] {}: {}: expected one for each of {} tokens, found {}", where_, key, tokens_.size(),
                      count);
  }

  void expect_utf8(std::string_view text) const {
    if (text::find_invalid(text) != text.npos) {
      fail<WeightError>("[gguf] {}: tokenizer: expected UTF-8, found {}", where_, shown(text));
    }
  }

  // UTF-8, as JSON.
  void text(std::string_view text) { append_json_string(out_, text); }

  // The id under a key, checked; a file may name no such token.
  std::optional<size_t> token_id(const char* key) const {
    auto id = file_.find_int(key);
    if (!id) return std::nullopt;
    if (*id < 0 || size_t(*id) >= tokens_.size()) {
      fail<WeightError>("[gguf] {}: {}: expected a number below {}, found {}", where_, key, tokens_.size(), *id);
    }
    return size_t(*id);
  }

  // Tokens that are cut out of a text before anything else; control tokens are left out of decoded text too.
  void add_added_tokens() {
    for (size_t id = 0; id < tokens_.size(); ++id) {
      bool special = types_[id] == kControl || types_[id] == kUnknown;
      if ((!special && types_[id] != kUserDefined) || tokens_[id].empty()) continue;
      parts_.added.push_back({id, special});
    }
  }

  void add_byte_level(const PreTokenizer& pre) {
    add_bos_ = pre.add_bos;
    out_ += pre.nfc ? R"("normalizer":{"type":"NFC"},)" : R"("normalizer":null,)";
    out_ += R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[)";
    for (const char* split : pre.splits) {
      if (!split) break;
      out_ += R"({"type":"Split","pattern":{"Regex":)";
      text(split);
      out_ += R"(},"behavior":"Isolated","invert":false},)";
    }
    constexpr std::string_view kByteLevel =
        R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";
    out_.append(kByteLevel).append("]},\"decoder\":").append(kByteLevel).append(",");
    add_post_processor();
    out_ += R"("model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,)"
            R"("end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":)";
    out_ += pre.ignore_merges ? "true," : "false,";
    out_ += kNoVocabulary;
    const auto merges = required_strings("tokenizer.ggml.merges");
    parts_.merges.reserve(merges.size());
    for (auto merge : merges) {
      auto space = merge.find(' ');
      if (space == 0 || space == merge.npos || space + 1 == merge.size() || merge.find(' ', space + 1) != merge.npos) {
        fail<WeightError>("[gguf] {}: tokenizer.ggml.merges: expected two tokens, found \"{}\"", where_, shown(merge));
      }
      expect_utf8(merge);
      parts_.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
  }

  void add_sentencepiece() {
    add_bos_ = true;
    bool prefix = file_.find_bool("tokenizer.ggml.add_space_prefix").value_or(true);
    constexpr std::string_view kReplace = R"({"type":"Replace","pattern":{"String":" "},"content":"▁"})";
    out_ += R"("normalizer":{"type":"Sequence","normalizers":[)";
    if (prefix) out_ += R"({"type":"Prepend","prepend":"▁"},)";
    out_.append(kReplace).append(R"(]},"pre_tokenizer":null,)");
    out_ += R"("decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},)"
            R"({"type":"ByteFallback"},{"type":"Fuse"})";
    if (prefix) out_ += R"(,{"type":"Strip","content":" ","start":1,"stop":0})";
    out_ += "]},";
    add_post_processor();
    out_ += R"("model":{"type":"BPE","dropout":null,"unk_token":)";
    auto unknown = token_id("tokenizer.ggml.unknown_token_id");
    if (unknown) {
      text(tokens_[*unknown]);
    } else {
      out_ += "null";
    }
    out_ += R"(,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":true,)"
            R"("ignore_merges":false,)";
    out_ += kNoVocabulary;
    auto scores = file_.find_floats("tokenizer.ggml.scores");
    if (!scores) fail<WeightError>("[gguf] {}: tokenizer.ggml.scores: expected numbers, found nothing", where_);
    expect_one_each("tokenizer.ggml.scores", scores->size());
    std::vector<bool> takes_part(tokens_.size());
    for (size_t id = 0; id < tokens_.size(); ++id) {
      takes_part[id] = types_[id] == kNormal || types_[id] == kUserDefined || types_[id] == kUnused;
    }
    for (const auto& merge : sentencepiece_merges(tokens_, *scores, takes_part)) {
      parts_.merges.emplace_back(merge.left, merge.right);
    }
  }

  // Beginning and end tokens are put around a text by tokenizer.json, so that nobody else has to know about them.
  void add_post_processor() {
    auto bos = token_id("tokenizer.ggml.bos_token_id"), eos = token_id("tokenizer.ggml.eos_token_id");
    add_bos_ = file_.find_bool("tokenizer.ggml.add_bos_token").value_or(add_bos_) && bos;
    add_eos_ = file_.find_bool("tokenizer.ggml.add_eos_token").value_or(false) && eos;
    if (!add_bos_ && !add_eos_) {
      out_ += R"("post_processor":null,)";
      return;
    }
    auto special = [&](size_t id, int type) {
      out_ += R"({"SpecialToken":{"id":)";
      text(tokens_[id]);
      fmt::format_to(std::back_inserter(out_), ",\"type_id\":{}}}}}", type);
    };
    auto sequence = [&](const char* name, int type) {
      if (add_bos_) special(*bos, type), out_ += ',';
      fmt::format_to(std::back_inserter(out_), R"({{"Sequence":{{"id":"{}","type_id":{}}}}})", name, type);
      if (add_eos_) out_ += ',', special(*eos, type);
    };
    out_ += R"("post_processor":{"type":"TemplateProcessing","single":[)";
    sequence("A", 0);
    out_ += R"(],"pair":[)";
    sequence("A", 0);
    out_ += ',';
    sequence("B", 1);
    out_ += R"(],"special_tokens":{)";
    auto describe = [&](size_t id) {
      text(tokens_[id]);
      out_ += R"(:{"id":)";
      text(tokens_[id]);
      fmt::format_to(std::back_inserter(out_), R"(,"ids":[{}],"tokens":[)", id);
      text(tokens_[id]);
      out_ += "]}";
    };
    if (add_bos_) describe(*bos);
    if (add_bos_ && add_eos_ && *bos != *eos) out_ += ',';
    if (add_eos_ && !(add_bos_ && *bos == *eos)) describe(*eos);
    out_ += "}},";
  }

  json settings() const {
    json out = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
    auto name = [&](const char* field, const char* key) {
      if (auto id = token_id(key)) out[field] = tokens_[*id];
    };
    name("bos_token", "tokenizer.ggml.bos_token_id");
    name("eos_token", "tokenizer.ggml.eos_token_id");
    name("unk_token", "tokenizer.ggml.unknown_token_id");
    name("pad_token", "tokenizer.ggml.padding_token_id");
    out["add_bos_token"] = add_bos_;
    out["add_eos_token"] = add_eos_;
    if (auto chat = file_.find_string("tokenizer.chat_template")) {
      std::string checked;
      if (!append_json_string(checked, *chat)) {
        fail<WeightError>("[gguf] {}: tokenizer.chat_template: expected UTF-8, found other bytes", where_);
      }
      out["chat_template"] = *chat;
    }
    auto architecture = file_.find_string("general.architecture").value_or("");
    if (auto length = file_.find_int(std::string(architecture) + ".context_length")) out["model_max_length"] = *length;
    return out;
  }

  const GgufFile& file_;
  std::string where_;
  std::vector<std::string_view> tokens_;
  std::vector<int64_t> types_;
  bool bytes_ = false, add_bos_ = false, add_eos_ = false;
  BytePairs parts_;
  std::string out_;  // tokenizer.json
};

}  // namespace

GgufTokenizer gguf_tokenizer(const GgufFile& file) { return Converter(file).convert(); }

}  // namespace mlx_lm
