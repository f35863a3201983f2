// tokenizer.json is written as text, without a JSON document in between: 49,000 tokens and as many merges take 6 to 12
// ms.

#include "mlx_lm/load/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/json_text.h"
#include "mlx_lm/load/sentencepiece_merges.h"

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
    out_.reserve(tokens_.size() * 64);
    out_ += R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)";
    add_added_tokens();
    out_ += "],";
    if (bytes_) {
      add_byte_level(find_pre_tokenizer(file_));
    } else {
      add_sentencepiece();
    }
    out_ += "}";
    return {std::move(out_), settings()};
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

  void text(std::string_view text) {
    if (!append_json_string(out_, text)) {
      fail<WeightError>("[gguf] {}: tokenizer: expected UTF-8, found {}", where_, shown(text));
    }
  }

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
    bool first = true;
    for (size_t id = 0; id < tokens_.size(); ++id) {
      bool special = types_[id] == kControl || types_[id] == kUnknown;
      if ((!special && types_[id] != kUserDefined) || tokens_[id].empty()) continue;
      out_ += first ? "" : ",";
      first = false;
      fmt::format_to(std::back_inserter(out_), "{{\"id\":{},\"content\":", id);
      text(tokens_[id]);
      out_ += R"(,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":)";
      out_ += special ? "true}" : "false}";
    }
  }

  void add_vocabulary() {
    out_ += R"("vocab":{)";
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (id > 0) out_ += ',';
      text(tokens_[id]);
      out_ += ':';
      out_ += fmt::format_int(id).c_str();
    }
    out_ += "}";
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
    add_vocabulary();
    out_ += R"(,"merges":[)";
    // As "left right": the tokenizers library reads that a fifth faster than pairs, but takes a line that starts with
    // "#version" for a comment.
    auto merges = required_strings("tokenizer.ggml.merges");
    bool as_pairs = std::ranges::any_of(merges, [](auto merge) { return merge.starts_with("#version"); });
    for (size_t i = 0; i < merges.size(); ++i) {
      auto merge = merges[i];
      auto space = merge.find(' ');
      if (space == 0 || space == merge.npos || space + 1 == merge.size() || merge.find(' ', space + 1) != merge.npos) {
        fail<WeightError>("[gguf] {}: tokenizer.ggml.merges: expected two tokens, found \"{}\"", where_, shown(merge));
      }
      if (as_pairs) {
        add_merge(merge.substr(0, space), merge.substr(space + 1), i == 0);
      } else {
        if (i > 0) out_ += ',';
        text(merge);
      }
    }
    out_ += "]}";
  }

  void add_merge(std::string_view left, std::string_view right, bool first) {
    out_ += first ? "[" : ",[";
    text(left);
    out_ += ',';
    text(right);
    out_ += ']';
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
    add_vocabulary();
    out_ += R"(,"merges":[)";
    auto scores = file_.find_floats("tokenizer.ggml.scores");
    if (!scores) fail<WeightError>("[gguf] {}: tokenizer.ggml.scores: expected numbers, found nothing", where_);
    expect_one_each("tokenizer.ggml.scores", scores->size());
    std::vector<bool> takes_part(tokens_.size());
    for (size_t id = 0; id < tokens_.size(); ++id) {
      takes_part[id] = types_[id] == kNormal || types_[id] == kUserDefined || types_[id] == kUnused;
    }
    bool first = true;
    for (const auto& merge : sentencepiece_merges(tokens_, *scores, takes_part)) {
      add_merge(merge.left, merge.right, first);
      first = false;
    }
    out_ += "]}";
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
  std::string out_;
};

}  // namespace

GgufTokenizer gguf_tokenizer(const GgufFile& file) { return Converter(file).convert(); }

}  // namespace mlx_lm
