#include "mlx_lm/hub/grammar.h"

#include <algorithm>
#include <functional>
#include <random>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"

#include "tests/hub/byte_tokenizer.h"
#include "tests/text/tiny_tokenizer.h"

namespace mlx_lm {
namespace {

using nlohmann::json;
using Ids = std::vector<int>;
using Texts = std::vector<std::string>;

// 256 bytes, 12 merges, <s> 268, </s> 269.
const Merges kMerges = {{"n", "a"}, {"m", "e"},   {"na", "me"},     {"\"", ":"},     {"{", "\""}, {"t", "r"},
                        {"u", "e"}, {"tr", "ue"}, {"\"", "\u0120"}, {"\u0120", "1"}, {"a", "b"},  {"]", "}"}};
constexpr int kEnd = 269, kSize = 270;

class ByteGrammar {
 public:
  explicit ByteGrammar(const GrammarOptions& options) : grammar_(tokens(), options) {}
  GrammarMatcher matcher() const { return grammar_.matcher(); }

  static const Tokenizer& tokenizer() {
    static const auto made = tokenizer_of(byte_level_json(kMerges));
    return made;
  }
  static const GrammarTokens& tokens() {
    static const GrammarTokens made(tokenizer(), kSize, Ids{kEnd});
    return made;
  }
  // What each token adds to a text.
  static Texts words() {
    Texts all;
    for (int byte = 0; byte < 256; ++byte) all.emplace_back(1, char(byte));
    for (const auto& [left, right] : kMerges) {
      std::string word = left + right;
      if (const auto at = word.find("\u0120"); at != word.npos) word.replace(at, 2, " ");
      all.push_back(word);
    }
    return all;
  }

 private:
  Grammar grammar_;
};

std::string refused(const GrammarTokens& tokens, const GrammarOptions& options) {
  try {
    Grammar(tokens, options).matcher();
  } catch (const RequestError& error) {
    return error.what();
  }
  return "nothing";
}
std::string refused(const GrammarOptions& options) { return refused(ByteGrammar::tokens(), options); }
std::string refused_schema(const std::string& schema) {
  constexpr std::string_view kArea = "[grammar] JSON schema: ";
  const auto text = refused({.json_schema = schema});
  EXPECT_EQ(text.find(kArea), 0u) << text;
  EXPECT_EQ(text.find('\n'), text.npos);
  return text.substr(std::min(text.size(), kArea.size()));
}

std::string joined(const Texts& words, const Ids& ids) {
  std::string text;
  for (int id : ids) text += words.at(id);
  return text;
}

// Walks through a language that is given as the list of its texts, and compares each mask with what the list says.
void compare(const GrammarOptions& options, const Texts& texts, const GrammarTokens& tokens, const Texts& words,
             int end, int walks) {
  const Grammar grammar(tokens, options);
  std::mt19937 random(7);
  for (int walk = 0; walk < walks; ++walk) {
    auto matcher = grammar.matcher();
    std::string text;
    while (true) {
      const auto fits = [&](std::string_view start) {
        return std::any_of(texts.begin(), texts.end(), [&](const auto& t) { return t.starts_with(start); });
      };
      const bool complete = std::find(texts.begin(), texts.end(), text) != texts.end();
      ASSERT_EQ(matcher.accepts(), complete) << text;
      const auto forced = matcher.forced();
      Ids expected;
      if (forced.empty()) {
        for (int id = 0; id < int(words.size()); ++id) {
          if (id != end && !words[id].empty() && fits(text + words[id])) expected.push_back(id);
        }
      } else {
        const auto next = text + joined(words, forced);
        for (const auto& t : texts) ASSERT_TRUE(!t.starts_with(text) || t.starts_with(next)) << next << " for " << t;
        expected.push_back(forced[0]);
      }
      if (complete) expected.push_back(end);
      std::sort(expected.begin(), expected.end());
      ASSERT_EQ(allowed(matcher), expected) << text;
      const int id = expected[random() % expected.size()];
      // What is not in the mask but fits is another way to write forced text; what does not fit changes nothing.
      for (int other : {int(random() % words.size()), int(random() % words.size()), end, -1, 1 << 20}) {
        const bool known = other >= 0 && other < int(words.size()) && !words[other].empty();
        const bool fit = other == end ? complete : known && fits(text + words[other]);
        ASSERT_EQ(matcher.validate(Ids{other}), int(fit)) << text << " + " << other;
        if (!fit) {
          ASSERT_FALSE(matcher.commit(other));
        }
      }
      ASSERT_TRUE(matcher.commit(id)) << text << " + " << id;
      if (id == end) break;
      text += words[id];
      ASSERT_EQ(matcher.stopped(), std::all_of(texts.begin(), texts.end(),
                                               [&](const auto& t) { return t == text || !t.starts_with(text); }))
          << text;
    }
    EXPECT_TRUE(matcher.stopped());
    EXPECT_TRUE(matcher.accepts());
    EXPECT_EQ(allowed(matcher), Ids{});
    EXPECT_FALSE(matcher.commit(end));
    EXPECT_EQ(matcher.validate(Ids{end}), 0);
  }
}
void compare(const GrammarOptions& options, const Texts& texts) {
  auto words = ByteGrammar::words();
  words.resize(kSize);
  compare(options, texts, ByteGrammar::tokens(), words, kEnd, 60);
}

TEST(Grammar, Choices) {
  const Texts texts = {"yes",    "no", "nana", "name", "true", "na\"me\": true\\\n\t\x7f/", "\u00e4\u20ac\U0001F600",
                       "\u00e4b"};
  compare({.choice = texts}, texts);
  compare({.choice = {"name"}}, {"name"});
}

TEST(Grammar, Regexes) {
  Texts texts;
  for (std::string first : {"ab", "abab", "na", "1 1"}) {
    for (std::string second : {"", "/", "//", "\u00e4"}) texts.push_back(first + second + "e");
  }
  compare({.regex = "^((ab){1,2}|na|1 1)(/{0,2}|\u00e4)e$"}, texts);
}

TEST(Grammar, Lark) {
  Texts texts;
  for (std::string left : {"true", "name"}) {
    for (std::string right : {"", "1", "11"}) texts.push_back("{\"" + left + "\":" + right + "]}");
  }
  compare({.lark = "start: \"{\" WORD \":\" one? one? \"]}\"\nWORD: /\"(true|name)\"/\none: \"1\"\n"}, texts);
}

TEST(Grammar, Schemas) {
  Texts texts;
  const Texts lists = {"[]", "[true]", "[false]", "[true, true]", "[true, false]", "[false, true]", "[false, false]"};
  for (int number = 7; number <= 12; ++number) {
    for (const auto& list : lists) {
      for (std::string last : {"", R"(, "name": null)", R"(, "name": "a\"b")", ", \"name\": \"\u00e4\""}) {
        texts.push_back("{\"a\": " + std::to_string(number) + ", \"b\": " + list + last + "}");
      }
    }
  }
  const json schema = {{"type", "object"},
                       {"properties",
                        {{"a", {{"type", "integer"}, {"minimum", 7}, {"exclusiveMaximum", 13}}},
                         {"b", {{"type", "array"}, {"items", {{"type", "boolean"}}}, {"maxItems", 2}}},
                         {"name", {{"enum", {nullptr, "a\"b", "\u00e4"}}}}}},
                       {"required", {"a", "b"}},
                       {"additionalProperties", false}};
  compare({.json_schema = schema.dump(), .compact = true}, texts);
}

TEST(Grammar, Recursion) {
  // {"n": {"n": null}} and so on, to the depth that a walk reaches.
  const json schema = {{"$defs",
                        {{"node/1",
                          {{"type", "object"},
                           {"properties", {{"n", {{"anyOf", {{{"$ref", "#/$defs/node~11"}}, {{"type", "null"}}}}}}}},
                           {"required", {"n"}},
                           {"additionalProperties", false}}}}},
                       {"$ref", "#/$defs/node%7E11"}};
  Texts texts;
  std::string open, close;
  for (int depth = 0; depth < 400; ++depth) {
    open += "{\"n\": ", close += "}";
    texts.push_back(open + "null" + close);
  }
  compare({.json_schema = schema.dump(), .compact = true}, texts);
}

TEST(Grammar, SentencePiece) {
  // Letters, then two merges: "\u2581a" and "ab".
  const auto tokenizer = tokenizer_of(sentencepiece_json({{"\u2581", "a"}, {"a", "b"}}));
  const int size = 256 + 94 + 1 + 2 + 2, end = size - 1;
  ASSERT_EQ(tokenizer.vocab_size(), size);
  Texts words;
  for (int byte = 0; byte < 256; ++byte) words.emplace_back(1, char(byte));
  for (char c = '!'; c <= '~'; ++c) words.emplace_back(1, c);
  for (const char* word : {" ", " a", "ab", "", ""}) words.emplace_back(word);
  const GrammarTokens tokens(tokenizer, size, Ids{end});
  const Texts texts = {"ab a", "ab\u00e4", "ab\n", " a", "b a ab", "\u20ac"};
  compare({.choice = texts}, texts, tokens, words, end, 60);
  // No space before it, although the tokenizer puts one before each text.
  auto matcher = Grammar(tokens, {.choice = {"ab a\u00e4!"}}).matcher();
  EXPECT_EQ(matcher.forced(), (Ids{256 + 94 + 2, 256 + 94 + 1, 0xC3, 0xA4, 256}));
}

TEST(Grammar, OtherTokenizers) {
  // Metaspace, without bytes: what the tokenizer cannot write is not in the language.
  auto file = json::parse(
      tiny_tokenizer_json({"<s>", "a", "\u2581b", "\u2581"},
                          {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "always"}}, 1));
  const GrammarTokens tokens(tokenizer_of(file), 5, Ids{0});
  auto matcher = Grammar(tokens, {.regex = "a+ [bc]"}).matcher();
  EXPECT_EQ(allowed(matcher), Ids{1});
  EXPECT_TRUE(matcher.commit(1));
  EXPECT_EQ(allowed(matcher), (Ids{1, 2, 3}));
  EXPECT_TRUE(matcher.commit(3));
  try {
    allowed(matcher);
    ADD_FAILURE();
  } catch (const RequestError& error) {
    EXPECT_STREQ(error.what(), "[grammar] the tokenizer has no token for what has to come next");
  }
  EXPECT_TRUE(matcher.stopped());
  EXPECT_THROW(matcher.accepts(), RequestError);
  EXPECT_THROW(matcher.commit(1), RequestError);
  EXPECT_EQ(refused(tokens, {.choice = {"b"}}),
            "[grammar] choice: nothing satisfies it, or nothing that the tokenizer can write");
  // The letters of the golden models' tokenizer.
  const GrammarTokens letters(letters_tokenizer(), 96, Ids{1});
  auto word = Grammar(letters, {.choice = {"ab c"}}).matcher();
  EXPECT_EQ(word.forced(), (Ids{2 + 'a' - ' ', 2 + 'b' - ' ', 2, 2 + 'c' - ' '}));

  file["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  EXPECT_EQ(refused(GrammarTokens(tokenizer_of(file), 5, Ids{0}), {.choice = {"a"}}),
            "[grammar] tiny: expected a tokenizer of bytes (ByteLevel, ByteFallback or Metaspace), found another");
  for (int size : {0, -1, (1 << 24) + 1}) {
    EXPECT_EQ(
        refused(GrammarTokens(letters_tokenizer(), size, Ids{}), {.choice = {"a"}}).find("[grammar] vocabulary: "), 0u);
  }
}

TEST(Grammar, VocabulariesOfOtherSizes) {
  const auto& tokenizer = ByteGrammar::tokenizer();
  // Larger: the model's additional tokens never come, not even where anything may.
  const GrammarTokens larger(tokenizer, 300, Ids{kEnd, 280, 300, -5});
  auto matcher = Grammar(larger, {.regex = "(?s:.*)"}).matcher();
  EXPECT_EQ(larger.words(), 10u);
  const auto any = allowed(matcher);
  EXPECT_EQ(std::count_if(any.begin(), any.end(), [](int id) { return id >= 268 && id != kEnd && id != 280; }), 0);
  EXPECT_EQ(std::count(any.begin(), any.end(), 280), 1);  // an end token of the model, which the tokenizer lacks
  for (int id : {268, 270, 279, 299, 300}) {
    EXPECT_FALSE(matcher.commit(id));
    EXPECT_EQ(matcher.validate(Ids{'a', id, 'a'}), 1);
  }
  EXPECT_TRUE(matcher.commit(280));
  // Smaller.
  const GrammarTokens smaller(tokenizer, 128, Ids{0});
  auto ascii = Grammar(smaller, {.choice = {"name", "\u00e4", "na"}}).matcher();
  EXPECT_EQ(smaller.words(), 4u);
  EXPECT_EQ(allowed(ascii), Ids{'n'});
  std::vector<uint32_t> few(3);
  EXPECT_THROW(ascii.mask(few), RequestError);
  EXPECT_EQ(allowed(ascii), Ids{'n'});
  // None at all: the end is known by stopped().
  auto endless = Grammar(GrammarTokens(tokenizer, kSize, Ids{}), {.choice = {"a"}}).matcher();
  EXPECT_TRUE(endless.commit('a'));
  EXPECT_TRUE(endless.stopped());
  EXPECT_EQ(allowed(endless), Ids{});
}

// A token that ends the answer is no text, even if it looks like some.
TEST(Grammar, EndTokensOfText) {
  const GrammarTokens tokens(ByteGrammar::tokenizer(), kSize, Ids{'}', '\n'});
  auto matcher = Grammar(tokens, {.regex = "x[}\n]*b?"}).matcher();
  EXPECT_EQ(allowed(matcher), Ids{'x'});
  EXPECT_TRUE(matcher.commit('x'));
  EXPECT_EQ(allowed(matcher), (Ids{'\n', 'b', '}'}));
  EXPECT_EQ(matcher.validate(Ids{'b', '\n', 'b'}), 2);
  EXPECT_TRUE(matcher.commit('\n'));
  EXPECT_TRUE(matcher.stopped());
}

TEST(Grammar, Forced) {
  const auto& tokenizer = ByteGrammar::tokenizer();
  const std::string text = R"({"name": true, "na": [1, 1]})";
  auto constant = ByteGrammar({.json_schema = json{{"const", json::parse(text)}}.dump(), .compact = true}).matcher();
  // json's own order is by name, so "na" comes first.
  EXPECT_EQ(constant.forced(), tokenizer.encode(R"({"na": [1, 1], "name": true})", false));
  // As far as what follows cannot change it: "na" may become "name".
  auto branches = ByteGrammar({.choice = {"true{\"name", "true{\"nab"}}).matcher();
  EXPECT_EQ(branches.forced(), tokenizer.encode("true{\"", false));
  for (int id : branches.forced()) EXPECT_TRUE(branches.commit(id));
  EXPECT_EQ(branches.forced(), Ids{});
  EXPECT_TRUE(branches.commit(258));  // name
  EXPECT_TRUE(branches.stopped());
  EXPECT_EQ(branches.forced(), Ids{});
  // The name of a special token is text, not that token.
  auto name = ByteGrammar({.choice = {"a</s>"}}).matcher();
  EXPECT_EQ(name.forced(), (Ids{'a', '<', '/', 's', '>'}));
  auto token = ByteGrammar({.lark = "start: \"a\" </s> \"b\"\n"}).matcher();
  EXPECT_EQ(allowed(token), Ids{'a'});
}

TEST(Grammar, RollbackAndCopies) {
  const json schema = {{"type", "object"},
                       {"properties", {{"name", {{"type", "string"}, {"maxLength", 3}}}, {"a", {{"$ref", "#"}}}}},
                       {"additionalProperties", {{"type", "number"}}}};
  const ByteGrammar grammar({.json_schema = schema.dump()});
  std::mt19937 random(3);
  for (int walk = 0; walk < 20; ++walk) {
    auto matcher = grammar.matcher();
    Ids made;
    for (int step = 0; step < 60; ++step) {
      if (random() % 4 == 0 && !made.empty()) {
        const int back = 1 + int(random() % made.size());
        matcher.rollback(back);
        made.resize(made.size() - back);
      }
      if (random() % 5 == 0) {
        auto copy = matcher;
        const auto may = allowed(copy);
        if (!may.empty()) copy.commit(may[random() % may.size()]);  // does not concern the original
        if (random() % 2) {
          copy = matcher;
          matcher = std::move(copy);
        }
      }
      auto fresh = grammar.matcher();
      for (int id : made) ASSERT_TRUE(fresh.commit(id));
      const auto may = allowed(matcher);
      ASSERT_EQ(may, allowed(fresh));
      ASSERT_EQ(matcher.accepts(), fresh.accepts());
      ASSERT_EQ(matcher.forced(), fresh.forced());
      ASSERT_EQ(matcher.stopped(), fresh.stopped());
      if (may.empty()) break;
      const int id = may[random() % may.size()];
      ASSERT_TRUE(matcher.commit(id));
      made.push_back(id);
    }
    matcher.rollback(int(made.size()));
    ASSERT_EQ(allowed(matcher),
              allowed(grammar.matcher().stopped() ? matcher : *std::make_unique<GrammarMatcher>(grammar.matcher())));
  }
  auto matcher = grammar.matcher();
  EXPECT_THROW(matcher.rollback(1), RequestError);
  EXPECT_THROW(matcher.rollback(-1), RequestError);
  matcher.rollback(0);
  for (char c : std::string("{}")) EXPECT_TRUE(matcher.commit(c));
  EXPECT_TRUE(matcher.commit(kEnd));
  matcher.rollback(1);
  EXPECT_TRUE(matcher.accepts());
  EXPECT_TRUE(matcher.commit(kEnd));
  matcher.rollback(2);
  EXPECT_FALSE(matcher.accepts());
  EXPECT_TRUE(matcher.commit('}'));
}

TEST(Grammar, Validate) {
  auto matcher = ByteGrammar({.choice = {"name", "nab"}}).matcher();
  EXPECT_EQ(matcher.validate(Ids{}), 0);
  EXPECT_EQ(matcher.validate(Ids{256, 257, kEnd, 'a'}), 3);
  EXPECT_EQ(matcher.validate(Ids{'n', 'a', 'b', 'b'}), 3);
  EXPECT_EQ(matcher.validate(Ids{'n', 'a', kEnd}), 2);
  EXPECT_EQ(matcher.validate(Ids{kEnd}), 0);
  EXPECT_TRUE(matcher.commit(258));
  EXPECT_EQ(matcher.validate(Ids{kEnd, kEnd}), 1);
  EXPECT_EQ(matcher.validate(Ids{'a'}), 0);
}

TEST(Grammar, Endings) {
  const auto written = [](const GrammarMatcher& matcher, int limit) {
    const auto tokens = matcher.ending(limit);
    return tokens ? ByteGrammar::tokenizer().decode(*tokens, false) : "none";
  };
  const json schema = {{"type", "object"},
                       {"properties",
                        {{"name", {{"type", "string"}, {"minLength", 2}}},
                         {"list", {{"type", "array"}, {"minItems", 1}, {"items", {{"enum", {true, "x"}}}}}}}},
                       {"required", {"name", "list"}},
                       {"additionalProperties", false}};
  auto matcher = ByteGrammar({.json_schema = schema.dump(), .compact = true}).matcher();
  EXPECT_EQ(json::parse(written(matcher, 100)), json::parse(R"({"list": ["x"], "name": ",0"})"));
  EXPECT_EQ(written(matcher, 5), "none");
  for (int id : ByteGrammar::tokenizer().encode(R"({"list": ["x", true], "name": "some{}text)", false))
    ASSERT_TRUE(matcher.commit(id));
  EXPECT_EQ(written(matcher, 100), "\"}");
  auto any = ByteGrammar({.json_object = true}).matcher();
  EXPECT_EQ(written(any, 10), "{}");
  for (char c : std::string(R"({"a":[[{"b":-)")) ASSERT_TRUE(any.commit(c));
  EXPECT_EQ(written(any, 10), "0}]]}");
  EXPECT_EQ(written(ByteGrammar({.regex = "[x-z]{3}!"}).matcher(), 4), "xyz!");
  EXPECT_EQ(written(ByteGrammar({.regex = "a+b?c"}).matcher(), 9), "abc");
  EXPECT_EQ(written(ByteGrammar({.regex = "[a-c]+>"}).matcher(), 9), "abc>");
  EXPECT_EQ(written(ByteGrammar({.regex = "a*"}).matcher(), 0), "");
  EXPECT_EQ(written(ByteGrammar({.regex = "a"}).matcher(), -1), "none");
}

TEST(Grammar, WhiteSpace) {
  const auto accepts = [](const GrammarOptions& options, const std::string& text) {
    auto matcher = ByteGrammar(options).matcher();
    for (char c : text) {
      if (!matcher.commit(uint8_t(c))) return false;
    }
    return matcher.accepts();
  };
  const GrammarOptions free = {.json_object = true}, compact = {.json_object = true, .compact = true};
  for (std::string text :
       {"{}", "{ }", "{\"a\":1}", "{ \"a\" : [ 1 , 2 ] }", "{\n  \"a\": 1,\r\n\t\"b\": \"\\u001f\\n\"\n}"}) {
    EXPECT_TRUE(accepts(free, text)) << text;
  }
  // Not for ever.
  EXPECT_FALSE(accepts(free, "{   }"));
  EXPECT_FALSE(accepts(free, "{\n" + std::string(65, ' ') + "}"));
  EXPECT_TRUE(accepts(compact, R"({"a": [1, 2], "b": {}})"));
  EXPECT_FALSE(accepts(compact, R"({"a":1})"));
  EXPECT_FALSE(accepts(compact, "{ }"));
}

TEST(Grammar, WhatItDoesWithKeywords) {
  const auto first = [](const json& schema) {
    auto matcher = ByteGrammar({.json_schema = schema.dump(), .compact = true}).matcher();
    return ByteGrammar::tokenizer().decode(matcher.forced(), false);
  };
  // Formats that are not known are annotations; the engine's own options are not for schemas from outside.
  EXPECT_EQ(first({{"type", "string"}, {"format", "password"}}), "");
  EXPECT_EQ(first({{"const", "a"}, {"x-guidance", {{"no_such", 1}}}}), "\"a\"");
  // Properties that are called like keywords.
  const json names = {
      {"type", "object"},
      {"properties", {{"$ref", {{"const", "x"}}}, {"const", {{"$ref", "#/$defs/d"}}}, {"format", {{"const", "y"}}}}},
      {"required", {"$ref", "const", "format"}},
      {"$defs", {{"d", {{"const", 5}}}}},
      {"additionalProperties", false}};
  EXPECT_EQ(first(names), R"({"$ref": "x", "const": 5, "format": "y"})");
  // References by the schema's own name.
  EXPECT_EQ(first({{"$id", "http://x/y"}, {"$defs", {{"d", {{"const", 5}}}}}, {"$ref", "http://x/y#/$defs/d"}}), "5");
  // Bounds beyond what a double knows become stricter.
  auto large =
      ByteGrammar({.json_schema = R"({"type":"integer","minimum":9007199254740991,"maximum":9223372036854775807})"})
          .matcher();
  EXPECT_EQ(ByteGrammar::tokenizer().decode(large.forced(), false), "9007199254740991");
  EXPECT_EQ(Grammar(ByteGrammar::tokens(), {.json_schema = R"({"oneOf":[{"type":"integer"},{"type":"number"}]})"})
                .warnings()
                .size(),
            1u);
  EXPECT_EQ(Grammar(ByteGrammar::tokens(), {.json_schema = R"({"oneOf":[{"type":"integer"},{"type":"null"}]})"})
                .warnings()
                .size(),
            0u);
}

TEST(Grammar, BadSchemas) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"type":)", "EOF while parsing a value at line 1 column 8"},
      {"", "EOF while parsing a value at line 1 column 0"},
      {"[1]", "#: expected an object, found a list"},
      {"\"x\"", "#: expected an object, found a text"},
      {"false", "#: nothing satisfies it"},
      {R"({"type":"strng"})", "#: Invalid type: strng"},
      {R"({"type":"object","properties":{"a":{"type":"array","items":{"not":{}}}}})",
       R"(#/properties/a/items: keywords that are not known here: "not")"},
      {R"({"anyOf":[{"type":"null"},{"if":{},"then":{},"uniqueItems":true}]})",
       R"(#/anyOf/1: keywords that are not known here: "if", "then", "uniqueItems")"},
      {R"({"$defs":{"d":{"properties":{"z":{"type":5}}}},"properties":{"q":{"$ref":"#/$defs/d"}}})",
       "#/$defs/d/properties/z: type must be a string or array of strings"},
      {R"({"properties":{"a":{"$ref":"#/$defs/none~1x"}}})", "#/properties/a: $ref: there is no #/$defs/none~1x"},
      {R"({"items":{"$ref":"http://x/y"}})", R"(#/items: $ref: expected one that begins with #/, found "http://x/y")"},
      {R"({"properties":{"x":{"type":"string","pattern":"a(b"}}})",
       "#/properties/x: pattern, column 2: unclosed group"},
      {R"_({"type":"string","pattern":"a(?=b)"})_",
       "#: pattern, column 2: look-around, including look-ahead and look-behind, is not supported"},
      {R"({"type":"string","pattern":"a\\"})", "#: pattern, the last \\ escapes nothing"},
      {R"({"type":"integer","minimum":5,"maximum":2})", "#: minimum (5) is greater than maximum (2)"},
      {R"({"properties":{"k":{"minimum":"a"}}})", "#/properties/k: Expected f64 for 'minimum', got \"a\""},
      {R"({"type":"array","minItems":3,"maxItems":1})", "#: minItems (3) is greater than maxItems (1)"},
      {R"({"type":"object","required":["a"],"additionalProperties":false})",
       "#: required property 'a' is unsatisfiable"},
      {R"({"enum":[]})", "#: anyOf is empty"},
      {R"({"const":9007199254740993})",
       "#: const: expected whole numbers of at most 9007199254740991, found 9007199254740993"},
      {R"({"minimum":9007199254740993})",
       "#: minimum: expected a whole number of at most 9007199254740991, found 9007199254740993"},
      {R"({"$ref":"#"})", "nothing satisfies it, or nothing that the tokenizer can write"},
      {R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})",
       "nothing satisfies it, or nothing that the tokenizer can write"},
  };
  for (const auto& [schema, text] : cases) EXPECT_EQ(refused_schema(schema), text) << schema;
}

TEST(Grammar, BadRegexesAndGrammars) {
  const std::vector<std::pair<std::string, std::string>> regexes = {
      {"", "expected a pattern, found nothing"},
      {"a(b", "column 2: unclosed group"},
      {"[z-a]", "column 2: invalid character class range, the start must be <= the end"},
      {"a{5,2}", "column 2: invalid repetition count range, the start must be <= the end"},
      {"ab\\", "the last \\ escapes nothing"},
      {"\\1", "column 1: backreferences are not supported"},
      {"\xff", "expected UTF-8, found an invalid byte at 0"}};
  for (const auto& [regex, text] : regexes) EXPECT_EQ(refused({.regex = regex}), "[grammar] regex: " + text);
  const std::vector<std::pair<std::string, std::string>> larks = {
      {"", "no start rule found"},
      {"start: foo\n", "line 1 column 8: unknown name: \"foo\""},
      {"start: a\na: \"x\n", "line 2 column 6: lexer error"},
      {"start: \"a\"\n | /(b/\n", "line 1 column 8: pattern, column 1: unclosed group"},
      {"start: %json {\"type\": \"x\"}\n", "line 1 column 8: failed to compile JSON schema: Invalid type: x"},
      {"start: A\nA: \"a\" A\n", "line 2 column 4: circular reference in token \"A\" definition"}};
  for (const auto& [lark, text] : larks) EXPECT_EQ(refused({.lark = lark}), "[grammar] Lark grammar: " + text);
  EXPECT_EQ(refused({.choice = {"a", ""}}), "[grammar] choice: expected texts, found an empty one");
  EXPECT_EQ(refused({.choice = {"\xc3", "\xa4"}}), "[grammar] choice: expected UTF-8, found half a letter");
  EXPECT_EQ(refused({}),
            "[grammar] options: expected one of json_schema, json_object, regex, lark and choice, found none");
  EXPECT_EQ(refused({.json_object = true, .choice = {"a"}}),
            "[grammar] options: expected one of json_schema, json_object, regex, lark and choice, found several");
}

std::string times(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

// Each is refused, or works within the limits of a mask; none takes for ever, fills the memory or ends the process.
TEST(Grammar, Hostile) {
  const auto numbered = [](int count, const std::function<std::string(int)>& one) {
    std::string all;
    for (int i = 0; i < count; ++i) all += (i ? "," : "") + one(i);
    return all;
  };
  const auto twice = [](int i) {
    const auto next = "{\"$ref\":\"#/$defs/d" + std::to_string(i + 1) + "\"}";
    return "\"d" + std::to_string(i) + "\":{\"allOf\":[" + next + "," + next + "],\"title\":\"t\"}";
  };
  const auto property = [](int i) { return "{\"properties\":{\"p" + std::to_string(i) + "\":{\"type\":\"string\"}}}"; };
  const std::vector<GrammarOptions> refused_ones = {
      {.json_schema = times(100'000, "[")},
      {.json_schema = times(100'000, R"({"items":)") + "{}" + times(100'000, "}")},
      {.json_schema = "{\"title\":\"" + std::string(10 << 20, 'x') + "\"}"},
      {.json_schema = "{\"const\":\"" + std::string(100'000, 'x') + "\"}"},
      {.json_schema =
           "{\"enum\":[" + numbered(100'000, [](int i) { return "\"v" + std::to_string(i * 7919) + "\""; }) + "]}"},
      {.json_schema = "{\"type\":\"object\",\"properties\":{" +
                      numbered(30'000, [](int i) { return "\"p" + std::to_string(i) + "\":{\"type\":\"integer\"}"; }) +
                      "}}"},
      {.json_schema = "{\"allOf\":[" +
                      numbered(20,
                               [&](int i) {
                                 return "{\"anyOf\":[" + numbered(8, [&](int j) { return property(8 * i + j); }) + "]}";
                               }) +
                      "]}"},
      {.json_schema = R"({"type":"integer","multipleOf":999999937})"},
      {.json_schema = R"({"type":"number","minimum":-1e-300,"maximum":1e300,"multipleOf":1e-300})"},
      {.regex = times(30'000, "(") + "a" + times(30'000, ")")},
      {.regex = times(200, "(") + "a" + times(200, "{1,9})")},
      {.lark = "start: " + times(100'000, "(") + "\"a\"" + times(100'000, ")") + "\n"},
      {.choice = {std::string(100'000, 'x')}},
  };
  for (const auto& options : refused_ones) {
    const auto text = refused(options);
    EXPECT_EQ(text.find("[grammar] "), 0u) << text;
    EXPECT_LT(text.size(), 900u);
    EXPECT_EQ(text.find('\n'), text.npos);
  }
  const std::vector<GrammarOptions> bearable = {
      {.json_schema = times(120, R"({"items":)") + "{}" + times(120, "}")},
      {.json_schema = R"({"type":"array","minItems":1000000000,"items":{"type":"array","minItems":1000000000}})"},
      {.json_schema = R"({"type":"string","minLength":1000000000})"},
      {.json_schema = "{\"$defs\":{" + numbered(60, twice) + ",\"d60\":{\"type\":\"null\"}},\"$ref\":\"#/$defs/d0\"}"},
      {.regex = "(a|b)*a(a|b){200}"},
      {.regex = "(a|aa)+" + times(100, "(a?)") + times(100, "a")},
      {.regex = ".*[ab].{1000}c.{1000}"},
      {.lark = "start: \"a\" start\n"},
      {.lark = "start: s\ns: s s s | s s | \"a\" | /[a-z]/ | /[a-y]/\n"},
      {.lark = "start: \"a\"{1000000000}\n"},
      {.lark = "start: A\nA: /(a|b)*a(a|b){15}/ & /(b|a)*b(a|b){17}/ & ~/(a|b)*a(a|b){19}/\n"},
  };
  for (const auto& options : bearable) {
    const ByteGrammar grammar(options);
    auto matcher = grammar.matcher();
    std::mt19937 random(1);
    try {
      for (int step = 0; step < 200 && !matcher.stopped(); ++step) {
        const auto may = allowed(matcher);
        ASSERT_TRUE(matcher.commit(may.at(random() % may.size())));
      }
    } catch (const RequestError&) {
    }
  }
}

TEST(Grammar, Threads) {
  const GrammarTokens tokens(ByteGrammar::tokenizer(), kSize, Ids{kEnd});  // not built yet
  std::vector<Ids> found(4);
  {
    std::vector<std::jthread> threads;
    for (auto& ids : found) {
      threads.emplace_back([&tokens, &ids] {
        const Grammar grammar(tokens, {.json_object = true});
        auto matcher = grammar.matcher();
        std::mt19937 random(5);
        for (int step = 0; step < 50; ++step) {
          auto copy = matcher;
          const auto may = allowed(copy);
          const int id = may[random() % may.size()];
          if (id == kEnd || !matcher.commit(id)) break;
          ids.push_back(id);
        }
      });
    }
  }
  for (const auto& ids : found) EXPECT_EQ(ids, found[0]);
  EXPECT_GT(found[0].size(), 3u);
}

}  // namespace
}  // namespace mlx_lm
