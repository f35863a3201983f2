// Random walks through the grammars of 200 schemas (schemas.jsonl, made by make_schemas.py) with the default model's
// tokenizer. By hand, with more walks, and every document checked by Python's jsonschema:
//   MLX_LM_WALKS=10 MLX_LM_DOCUMENTS=documents.jsonl test_structured && validate.py schemas.jsonl documents.jsonl
#include <fstream>
#include <iostream>
#include <random>
#include <regex>

#include <gtest/gtest.h>

#include "mlx_lm/hub/grammar.h"
#include "mlx_lm/mlx_lm.h"

#include "tests/hub/byte_tokenizer.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

constexpr int kVocabulary = 49152;

// The keywords of the schemas but pattern, format and patternProperties, which validate.py checks.
class Checker {
 public:
  explicit Checker(const json& root) : root_(root) {}

  bool valid(const json& schema, const json& value) const {
    if (schema.is_boolean()) return schema.get<bool>();
    for (const auto& [key, wanted] : schema.items()) {
      if (!keyword(schema, key, wanted, value)) return false;
    }
    return true;
  }

 private:
  bool keyword(const json& schema, const std::string& key, const json& wanted, const json& value) const {
    const auto holds = [&](const json& inner) { return valid(inner, value); };
    if (key == "$ref") return holds(root_.at(json::json_pointer(wanted.get<std::string>().substr(1))));
    if (key == "anyOf") return std::any_of(wanted.begin(), wanted.end(), holds);
    if (key == "allOf") return std::all_of(wanted.begin(), wanted.end(), holds);
    if (key == "const") return value == wanted;
    if (key == "enum") return std::find(wanted.begin(), wanted.end(), value) != wanted.end();
    if (key == "type") {
      const auto is = [&](const json& name) { return is_a(name.get<std::string>(), value); };
      return wanted.is_array() ? std::any_of(wanted.begin(), wanted.end(), is) : is(wanted);
    }
    if (value.is_number()) {
      const auto number = value.get<double>(), bound = wanted.is_number() ? wanted.get<double>() : 0;
      if (key == "minimum") return number >= bound;
      if (key == "maximum") return number <= bound;
      if (key == "exclusiveMinimum") return number > bound;
      if (key == "exclusiveMaximum") return number < bound;
      if (key == "multipleOf") return std::abs(number) > 1e15 || std::fmod(number, bound) == 0;
    }
    if (value.is_string()) {
      const auto& text = value.get_ref<const std::string&>();
      const auto letters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
      if (key == "minLength") return letters >= wanted.get<int>();
      if (key == "maxLength") return letters <= wanted.get<int>();
    }
    if (value.is_array()) {
      if (key == "minItems") return int(value.size()) >= wanted.get<int>();
      if (key == "maxItems") return int(value.size()) <= wanted.get<int>();
      const size_t first = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
      for (size_t i = 0; i < value.size(); ++i) {
        if (key == "prefixItems" && i < first && !valid(wanted[i], value[i])) return false;
        if (key == "items" && i >= first && !valid(wanted, value[i])) return false;
      }
    }
    if (value.is_object()) {
      for (const auto& [name, inner] : value.items()) {
        if (key == "properties" && wanted.contains(name) && !valid(wanted[name], inner)) return false;
        const bool known = schema.contains("properties") && schema["properties"].contains(name);
        const bool other = known || schema.contains("patternProperties");
        if (key == "additionalProperties" && !other && !valid(wanted, inner)) return false;
      }
      if (key == "required") {
        return std::all_of(wanted.begin(), wanted.end(), [&](const json& name) { return value.contains(name); });
      }
    }
    return true;
  }

  static bool is_a(const std::string& name, const json& value) {
    if (name == "integer") return value.is_number() && std::fmod(value.get<double>(), 1) == 0;
    return name == (value.is_number() ? "number" : value.type_name());
  }

  const json& root_;
};

class Schemas : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto files = open_model(default_model_path());
    tokenizer_ = load_tokenizer(files, load_config(files)).tokenizer();
    tokens_.emplace(*tokenizer_, kVocabulary, std::vector<int>{2});
    std::ifstream file(MLX_LM_TEST_DATA "/structured/schemas.jsonl");
    for (std::string line; std::getline(file, line);) lines_.push_back(line);
  }
  static void TearDownTestSuite() { tokens_.reset(), tokenizer_.reset(), lines_.clear(); }

  // Some random tokens, then the way out, if the grammar has a short one from there; nothing if it never ends.
  static std::optional<std::string> walk(const Grammar& grammar, std::mt19937& random) {
    auto matcher = grammar.matcher();
    std::vector<int> made;
    size_t turn = random() % 60;
    while (!matcher.stopped() && !(matcher.accepts() && random() % 2)) {
      if (made.size() >= turn) {
        if (const auto rest = matcher.ending(300)) {
          for (int id : *rest) EXPECT_TRUE(matcher.commit(id));
          made.insert(made.end(), rest->begin(), rest->end());
          break;
        }
        turn += 20;
      }
      if (made.size() > 400) return std::nullopt;
      const auto forced = matcher.forced();
      const auto may = allowed(matcher);
      if (!forced.empty()) {
        EXPECT_EQ(may, std::vector<int>{forced[0]});
      }
      const int id = may.at(random() % may.size());
      if (id == 2) break;
      EXPECT_EQ(matcher.validate(std::vector<int>{id}), 1);
      EXPECT_TRUE(matcher.commit(id));
      made.push_back(id);
    }
    EXPECT_TRUE(matcher.accepts());
    EXPECT_TRUE(matcher.commit(2));
    return tokenizer_->decode(made, false);
  }

  static std::optional<Tokenizer> tokenizer_;
  static std::optional<GrammarTokens> tokens_;
  static std::vector<std::string> lines_;
};
std::optional<Tokenizer> Schemas::tokenizer_;
std::optional<GrammarTokens> Schemas::tokens_;
std::vector<std::string> Schemas::lines_;

TEST_F(Schemas, what_ends_is_valid) {
  ASSERT_EQ(lines_.size(), 200u);
  const char* walks = std::getenv("MLX_LM_WALKS");
  const char* documents = std::getenv("MLX_LM_DOCUMENTS");
  std::ofstream out;
  if (documents) out.open(documents);
  std::mt19937 random(11);
  int total = 0, ended = 0;
  for (size_t i = 0; i < lines_.size(); i += walks ? 1 : 4) {
    SCOPED_TRACE(lines_[i]);
    const auto schema = json::parse(lines_[i]);
    for (int n = 0; n < (walks ? std::atoi(walks) : 1); ++n) {
      const Grammar grammar(*tokens_, {.json_schema = lines_[i], .compact = random() % 2 == 0});
      ++total;
      const auto text = walk(grammar, random);
      if (!text) continue;
      ++ended;
      // 1e999 is JSON, but no double; so are 300 digits.
      static const std::regex kHuge("[0-9][eE][-+]?[0-9]{3}|[0-9]{300}");
      if (!std::regex_search(*text, kHuge)) {
        const auto value = json::parse(*text, nullptr, /* allow_exceptions */ false);
        ASSERT_FALSE(value.is_discarded()) << *text;
        EXPECT_TRUE(Checker(schema).valid(schema, value)) << *text;
      }
      if (documents) out << json{{"schema", i}, {"text", *text}}.dump() << '\n';
    }
  }
  std::cout << ended << " of " << total << " walks ended" << std::endl;
  EXPECT_GE(ended, total * 9 / 10);
}

// The real vocabulary against the list of all texts of a small language.
TEST_F(Schemas, masks_of_the_real_vocabulary) {
  std::vector<std::string> words;
  for (int id = 0; id < kVocabulary; ++id) words.push_back(tokenizer_->decode(std::vector<int>{id}, true));
  const Grammar grammar(*tokens_,
                        {.json_schema = R"({"type":"object","properties":{"name":{"enum":["Anna","An apple","\u00e4"]},
    "count":{"type":"integer","minimum":98,"maximum":102},"done":{"type":"boolean"}},"required":["name","count"],
    "additionalProperties":false})",
                         .compact = true});
  std::vector<std::string> texts;
  for (std::string name : {"Anna", "An apple", "\u00e4"}) {
    for (std::string count : {"98", "99", "100", "101", "102"}) {
      for (std::string done : {"", ", \"done\": true", ", \"done\": false"}) {
        texts.push_back("{\"name\": \"" + name + "\", \"count\": " + count + done + "}");
      }
    }
  }
  int masks = 0;
  for (const auto& target : texts) {
    auto matcher = grammar.matcher();
    std::string text;
    while (text != target) {
      const auto fits = [&](const std::string& start) {
        return std::any_of(texts.begin(), texts.end(), [&](const auto& t) { return t.starts_with(start); });
      };
      const auto may = allowed(matcher);
      const auto forced = matcher.forced();
      std::vector<int> expected;
      for (int id = 0; id < kVocabulary && forced.empty(); ++id) {
        // Half a letter reads as U+FFFD; the texts have one such letter, of two bytes.
        if (!words[id].empty() && (fits(text + words[id]))) expected.push_back(id);
      }
      if (!forced.empty()) expected.push_back(forced[0]);
      std::vector<int> whole;
      for (int id : may) {
        if (words[id].find("\uFFFD") == std::string::npos) whole.push_back(id);
      }
      ASSERT_EQ(whole, expected) << text;
      ++masks;
      // Towards the target by the longest token.
      int best = -1;
      for (int id : whole) {
        const bool longer = best < 0 || words[id].size() > words[best].size();
        if (target.starts_with(text + words[id]) && longer) best = id;
      }
      ASSERT_GE(best, 0) << text;
      ASSERT_TRUE(matcher.commit(best));
      text += words[best];
    }
    EXPECT_TRUE(matcher.accepts());
  }
  EXPECT_GT(masks, 200);
}

// Forced text comes in the tokens in which the tokenizer writes it.
TEST_F(Schemas, forced_tokens_are_canonical) {
  for (std::string text :
       {R"({"first name": "J\u00fcrgen \"\ud83d\ude00\"", "n": [1, 2.5, null], "text": "Hello,  world"})",
        R"(["</s>", "<|im_end|>", "a/b", "    indented"])", "12345678", "true"}) {
    const auto compact = nlohmann::ordered_json::parse(text);
    const Grammar grammar(*tokens_,
                          {.json_schema = nlohmann::ordered_json{{"const", compact}}.dump(), .compact = true});
    const auto forced = grammar.matcher().forced();
    const auto written = tokenizer_->decode(forced, false);
    EXPECT_EQ(nlohmann::ordered_json::parse(written), compact);
    if (written.find("<|") == std::string::npos) {
      EXPECT_EQ(forced, tokenizer_->encode(written, false));
    }
    for (int id : forced) EXPECT_NE(id, 2);
  }
}

}  // namespace
}  // namespace mlx_lm
