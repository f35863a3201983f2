#include "mlx_lm/generate/perplexity.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/hub/tokenizer.h"
#include "mlx_lm/kernels/kernels.h"

#include "tests/load/temp_folder.h"
#include "tests/load/tiny_model.h"
#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

json expected() {
  static const json all = read_json(std::filesystem::path(MLX_LM_TEST_DATA) / "golden" / "perplexity.json");
  return all;
}

std::vector<int> flat(const json& sequences) {
  std::vector<int> tokens;
  for (const auto& row : sequences) {
    for (int token : row) tokens.push_back(token);
  }
  return tokens;
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const RequestError& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(EvalPpl, is_mlx_lm_s) {
  kernels::set_activations(kernels::Activations::float32);
  const auto all = expected();
  for (const auto& e : all["models"]) {
    SCOPED_TRACE(e["case"]);
    const auto model = GoldenCase(e["case"]).make(mx::float32);
    const int length = int(e["sequences"][0].size()), count = int(e["sequences"].size());
    const auto tokens = flat(e["sequences"]);
    for (int batch_size : {e["batch_size"].get<int>(), 1, 2, 100}) {
      std::vector<std::pair<int, int>> told;
      const auto found = eval_ppl(*model, tokens, {.batch_size = batch_size, .sequence_length = length},
                                  [&](int done, int total) { told.emplace_back(done, total); });
      const double ppl = e["perplexity"], error = e["standard_error"];
      EXPECT_NEAR(found.perplexity, ppl, 2e-4 * ppl);
      EXPECT_NEAR(found.standard_error, error, 2e-4 * error);
      EXPECT_EQ(found.tokens, count * (length - 1));
      const int batches = (count + batch_size - 1) / batch_size;
      ASSERT_EQ(int(told.size()), batches);
      EXPECT_EQ(told.back(), std::pair(batches, batches));
    }
  }
  kernels::set_activations(kernels::Activations::int16);
}

// As if it had a vocabulary that lets only a few positions into a piece.
class WideModel final : public models::LanguageModel {
 public:
  explicit WideModel(const models::LanguageModel& model)
      : LanguageModel(nn::Weights({}, {}, "none", mx::float32)), model_(model) {}
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    lengths.push_back(tokens.shape(1));
    return model_(tokens, caches);
  }
  int num_layers() const override { return model_.num_layers(); }
  int vocab_size() const override { return 3 << 20; }
  cache::KVCaches make_cache(int size) const override { return model_.make_cache(size); }
  mutable std::vector<int> lengths;

 private:
  const models::LanguageModel& model_;
};

TEST(EvalPpl, does_not_depend_on_the_pieces) {
  const auto e = expected()["models"][0];
  const auto model = GoldenCase(e["case"]).make(mx::float32);
  const WideModel wide(*model);
  const auto found = eval_ppl(wide, flat(e["sequences"]), {.batch_size = 1, .sequence_length = 24});
  EXPECT_NEAR(found.perplexity, e["perplexity"].get<double>(), 2e-4 * e["perplexity"].get<double>());
  EXPECT_EQ(std::vector(wide.lengths.begin(), wide.lengths.begin() + 3), (std::vector{10, 10, 3}));
}

TEST(EvalPpl, refuses_what_makes_no_sense) {
  const auto model = GoldenCase("llama_basic").make();
  EXPECT_EQ(message_of([&] {
              eval_ppl(*model, {1, 2, 96}, {.sequence_length = 3});
            }),
            "[perplexity] data: expected tokens below the model's 96, found 96");
  EXPECT_NE(message_of([&] { eval_ppl(*model, {1, 2, -1}, {.sequence_length = 3}); }).find("-1"), std::string::npos);
  EXPECT_EQ(message_of([&] {
              eval_ppl(*model, {1, 2, 3}, {.sequence_length = 2});
            }),
            "[perplexity] sequences: expected some of 2 tokens, found 3 tokens");
  EXPECT_NE(message_of([&] { eval_ppl(*model, {}, {}); }), "nothing thrown");
  EXPECT_EQ(message_of([] { PerplexityOptions{.batch_size = 0}.validate(); }),
            "[perplexity] batch-size: expected at least 1, found 0");
  EXPECT_EQ(message_of([] { PerplexityOptions{.sequence_length = 1}.validate(); }),
            "[perplexity] sequence-length: expected at least 2, found 1");
  for (int bad : {0, -2}) {
    EXPECT_NE(message_of([&] { PerplexityOptions{.num_samples = bad}.validate(); }), "nothing thrown");
  }
}

TEST(Permutation, is_numpy_s) {
  EXPECT_TRUE(permutation(0, 1).empty());
  const auto golden = expected();
  for (const auto& e : golden["permutations"]) {
    EXPECT_EQ(permutation(e["n"], e["seed"]), e["order"].get<std::vector<size_t>>()) << e["n"];
  }
}

class LoadData : public testing::Test {
 protected:
  // Bytes; 256 is <start>, 257 <end>.
  static text::TokenizerWrapper tokenizer() {
    const TinyModel model;
    return text::TokenizerWrapper({.tokenizer = Tokenizer::from_json(model.tokenizer.dump(), "tiny"),
                                   .config = model.tokenizer_config,
                                   .chat_template = {},
                                   .eos_token_ids = {257},
                                   .where = "tiny"});
  }
  std::vector<int> load(const std::string& name, const std::string& text, const PerplexityOptions& o) {
    folder_.write(name, text);
    return load_data(folder_.path() / name, tokenizer(), o);
  }
  std::string refused(const std::string& name, const std::string& text, int length = 4) {
    return message_of([&] { load(name, text, {.sequence_length = length}); });
  }

  TempFolder folder_;
};

std::vector<int> bytes(std::string_view text) { return {text.begin(), text.end()}; }

TEST_F(LoadData, takes_records_as_mlx_lm_does) {
  const auto all = expected();
  std::string lines;
  for (const auto& text : all["records"]) lines += json{{"text", text}}.dump() + "\n";
  for (const auto& e : all["data"]) {
    const PerplexityOptions o{
        .sequence_length = e["sequence_length"], .num_samples = e["num_samples"], .seed = e["seed"]};
    EXPECT_EQ(load("data.jsonl", lines, o), flat(e["sequences"]));
  }
}

TEST_F(LoadData, cuts_a_text_into_sequences) {
  const std::string text = "A text of twenty-six\nbytes";
  EXPECT_EQ(load("a.txt", text, {.sequence_length = 8}), bytes(text.substr(0, 24)));
  EXPECT_EQ(load("a.txt", text, {.sequence_length = 8, .num_samples = -1}), bytes(text.substr(0, 24)));
  EXPECT_EQ(load("a.txt", text, {.sequence_length = 8, .num_samples = 2}), bytes(text.substr(0, 16)));
  EXPECT_EQ(load("a.txt", text, {.sequence_length = 26}), bytes(text));
}

TEST_F(LoadData, writes_messages_by_the_template) {
  const std::string line =
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]})";
  const auto found = load("chat.jsonl", line, {.sequence_length = 19});
  auto wanted = bytes("?user:Hi\n?assistant:Ho\n");
  wanted[0] = wanted[9] = 256;
  wanted.resize(19);
  EXPECT_EQ(found, wanted);
}

TEST_F(LoadData, skips_empty_lines_and_ends_texts_once) {
  EXPECT_EQ(load("d.jsonl", "\n  \r\n{\"text\": \"abc\"}\n\n", {.sequence_length = 4}),
            (std::vector<int>{'a', 'b', 'c', 257}));
  EXPECT_EQ(load("d.jsonl", "{\"text\": \"abc<end>\"}", {.sequence_length = 4}),
            (std::vector<int>{'a', 'b', 'c', 257}));
  EXPECT_EQ(load("d.jsonl", "{\"text\": \"\"}\n{\"text\": \"\"}", {.sequence_length = 2}),
            (std::vector<int>{257, 257}));
}

TEST_F(LoadData, names_what_is_wrong) {
  const auto path = (folder_.path() / "d.jsonl").string();
  EXPECT_EQ(message_of([&] { load_data(path, tokenizer(), {}); }),
            "[perplexity] data-path: expected a .txt or .jsonl file, found nothing at '" + path + "'");
  EXPECT_EQ(message_of([&] { load_data(folder_.path(), tokenizer(), {}); }),
            "[perplexity] data-path: expected a .txt or .jsonl file, found '" + folder_.path().string() + "'");
  EXPECT_NE(refused("d.csv", "text"), "nothing thrown");
  EXPECT_EQ(refused("d.txt", "abc"),
            "[perplexity] " + (folder_.path() / "d.txt").string() + ": expected at least 4 tokens, found 3");
  EXPECT_NE(refused("d.txt", "").find("found 0"), std::string::npos);
  for (const char* bad : {"{}", "[1]", "3", "{\"text\": 3}", "{\"prompt\": \"a\"}"}) {
    EXPECT_EQ(refused("d.jsonl", "\n" + std::string(bad)),
              "[perplexity] " + path + ":2: expected an object with \"messages\" or a text as \"text\", found neither")
        << bad;
  }
  EXPECT_THROW(load("d.jsonl", "{\"text\": ", {}), ConfigError);
  EXPECT_THROW(load("d.jsonl", "{\"messages\": []}", {}), RequestError);
  EXPECT_THROW(load("d.txt", "\xff\xfe\xfd\xfc", {.sequence_length = 2}), RequestError);
}

}  // namespace
}  // namespace mlx_lm
