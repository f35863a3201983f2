#include "mlx_lm/hub/tokenizer.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"

#include "tests/load/temp_folder.h"

namespace mlx_lm {
namespace {

using nlohmann::json;
using Ids = std::vector<int>;

// Bytes as GPT-2 writes them, two merges, a special token and one that is only added.
json tiny() {
  json vocab = json::object();
  const std::vector<std::string> tokens = {"a", "b", "c", "ab", "abc", "Ġ", "Ã", "¤", "Ċ"};
  for (size_t i = 0; i < tokens.size(); i++) vocab[tokens[i]] = i;
  const auto added = [](int id, const char* text, bool special) {
    return json{{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", special}};
  };
  const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", {{"direction", "Right"}, {"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}}},
          {"padding", nullptr},
          {"added_tokens", {added(9, "<s>", true), added(10, "<think>", false)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", bytes},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
            {"pair", {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "B"}, {"type_id", 0}}}}}},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {9}}, {"tokens", {"<s>"}}}}}}}},
          {"decoder", bytes},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocab},
            {"merges", {"a b", "ab c"}}}}};
}

Tokenizer tokenizer() { return Tokenizer::from_json(tiny().dump(), "tiny"); }

std::string refused(std::string_view text) {
  try {
    Tokenizer::from_json(text, "a.json");
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_EQ(what.find("[tokenizer] a.json: "), 0u) << what;
    EXPECT_EQ(what.find('\n'), what.npos);
    EXPECT_LT(what.size(), 500u);
    return what.substr(20);
  }
  ADD_FAILURE() << "expected an error, found none";
  return "";
}

TEST(Tokenizer, EncodesAndDecodes) {
  const auto t = tokenizer();
  EXPECT_EQ(t.encode("abc ab\nä", false), (Ids{4, 5, 3, 8, 6, 7}));  // longer than the file's own truncation
  EXPECT_EQ(t.encode("ab", true), (Ids{9, 3}));
  EXPECT_EQ(t.encode("", true), Ids{9});
  EXPECT_EQ(t.encode("", false), Ids{});
  EXPECT_EQ(t.encode("a<s><think>b", false), (Ids{0, 9, 10, 1}));
  EXPECT_EQ(t.decode(Ids{9, 4, 5, 6, 7, 10}, true), "abc ä<think>");
  EXPECT_EQ(t.decode(Ids{9, 4, 5, 6, 7, 10}, false), "<s>abc ä<think>");
  EXPECT_EQ(t.decode(Ids{}, false), "");
  EXPECT_EQ(t.decode(Ids{6}, false), "\xef\xbf\xbd");               // half a character
  EXPECT_EQ(t.encode(std::string("a\0b", 3), false), (Ids{0, 1}));  // bytes that the vocabulary lacks are left out
}

TEST(Tokenizer, IdsThatAreNoneAreLeftOut) {
  EXPECT_EQ(tokenizer().decode(
                Ids{-1, 0, 11, 1 << 24, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()}, false),
            "a");
}

TEST(Tokenizer, TextThatIsNotUtf8) {
  const auto t = tokenizer();
  for (std::string text : std::vector<std::string>{"\xff", "a\xc3", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xc0\x80"}) {
    EXPECT_THROW(t.encode(text, false), RequestError);
  }
  try {
    t.encode("ab\xff", false);
  } catch (const RequestError& error) {
    EXPECT_STREQ(error.what(), "[tokenizer] text: expected UTF-8, found an invalid byte at 2");
  }
  EXPECT_EQ(t.token_to_id("\xff"), std::nullopt);
}

TEST(Tokenizer, Vocabulary) {
  const auto t = tokenizer();
  EXPECT_EQ(t.vocab_size(), 11);
  EXPECT_EQ(t.vocabulary(),
            (std::vector<std::string>{"a", "b", "c", "ab", "abc", "Ġ", "Ã", "¤", "Ċ", "<s>", "<think>"}));
  for (int id = 0; id < 11; id++) EXPECT_EQ(t.token_to_id(*t.id_to_token(id)), id);
  for (int id : {-1, 11, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()}) {
    EXPECT_EQ(t.id_to_token(id), std::nullopt);
  }
  EXPECT_EQ(t.token_to_id("nothing"), std::nullopt);
  EXPECT_EQ(json::parse(t.decoder_json())["type"], "ByteLevel");
}

TEST(Tokenizer, IdsWithHoles) {
  auto file = tiny();
  file["model"]["vocab"]["<s>"] = 20;
  file["model"]["vocab"]["<think>"] = 12;
  const auto t = Tokenizer::from_json(file.dump(), "");
  EXPECT_EQ(t.vocab_size(), 11);
  const auto tokens = t.vocabulary();
  ASSERT_EQ(tokens.size(), 21u);
  EXPECT_EQ(tokens[20], "<s>");
  EXPECT_EQ(tokens[12], "<think>");
  EXPECT_EQ(tokens[15], "");
}

TEST(Tokenizer, FilesThatAreNone) {
  for (std::string text :
       std::vector<std::string>{"", "{}", "[]", "null", "{\"model\":{}}", tiny().dump().substr(0, 400),
                                std::string(1'000'000, '['), R"({"model":{"type":"Nothing"}})"}) {
    EXPECT_EQ(refused(text).find("not a tokenizer that is known here: "), 0u);
  }
  EXPECT_EQ(refused("{\"\xff\":1}"), "not UTF-8 at byte 2");
  for (int64_t id : {int64_t(1 << 24) + 1, (int64_t(1) << 32) - 1}) {
    auto file = tiny();
    file["model"]["vocab"]["abc"] = id;
    EXPECT_EQ(refused(file.dump()), "expected ids up to 16777216, found " + std::to_string(id));
  }
  for (const json& id : {json(-1), json(int64_t(1) << 32), json(1.5), json("4"), json(nullptr)}) {
    auto file = tiny();
    file["model"]["vocab"]["abc"] = id;
    refused(file.dump());
  }
  auto file = tiny();
  file["model"]["merges"] = {"a nothing"};
  refused(file.dump());
  file = tiny();
  file["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(unclosed"}}}, {"behavior", "Isolated"}, {"invert", false}};
  refused(file.dump());
}

TEST(Tokenizer, ReadsFiles) {
  const TempFolder folder;
  EXPECT_EQ(Tokenizer::from_file(folder.write("tokenizer.json", tiny().dump())).encode("ab", false), Ids{3});
  const auto text = [](const std::filesystem::path& path) {
    try {
      Tokenizer::from_file(path);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto missing = (folder.path() / "none.json").string();
  EXPECT_EQ(text(missing), "[tokenizer] " + missing + ": cannot be read: No such file or directory (os error 2)");
  EXPECT_NE(text(folder.path()).find("expected a file, found something else"), std::string::npos);
  EXPECT_NE(text("/dev/zero").find("expected a file, found something else"), std::string::npos);
  const auto huge = folder.write("huge.json", "");
  std::filesystem::resize_file(huge, 600u << 20);  // a hole: it takes no room
  EXPECT_NE(text(huge).find("expected at most 536870912 bytes, found 629145600"), std::string::npos);
}

// A pattern of a file that takes exponential time on a text is given up.
TEST(Tokenizer, HostilePatterns) {
  auto file = tiny();
  file["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", R"((?=(a+)+$)(a|aa)+$)"}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
  const auto t = Tokenizer::from_json(file.dump(), "");
  const auto start = std::chrono::steady_clock::now();
  try {
    t.encode(std::string(5000, 'a') + "!", false);
  } catch (const RequestError& error) {
    EXPECT_EQ(std::string(error.what()).find("[tokenizer] "), 0u) << error.what();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Tokenizer, LongTexts) {
  const auto t = tokenizer();
  std::string text;
  for (int i = 0; i < 100'000; i++) text += "abc ab\n";
  const auto start = std::chrono::steady_clock::now();
  const auto ids = t.encode(text, false);
  EXPECT_EQ(ids.size(), 400'000u);
  EXPECT_EQ(t.decode(ids, false), text);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Tokenizer, CopiesAndThreads) {
  const auto t = tokenizer();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([t] {
      for (int n = 0; n < 200; n++) EXPECT_EQ(t.decode(t.encode("abc ab", true), true), "abc ab");
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace mlx_lm
