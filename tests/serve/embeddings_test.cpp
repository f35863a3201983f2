// /v1/embeddings against Python mlx-lm's hidden states (tests/real/smollm2_embeddings.json).
#include <cmath>
#include <cstring>
#include <fstream>
#include <future>
#include <numeric>

#include "tests/serve/running_server.h"

namespace mlx_lm::serve {
namespace {

using Vector = std::vector<float>;

class EmbeddingsTest : public DefaultServer {
 protected:
  static Reply embed(const json& input, json more = json::object()) {
    more["input"] = input;
    return post("/v1/embeddings", more);
  }
  static Vector vector(const Reply& reply, int i = 0) { return reply.body()["data"][i]["embedding"].get<Vector>(); }

  const json cases_ = json::parse(std::ifstream(MLX_LM_TEST_DATA "/real/smollm2_embeddings.json"))["cases"];
};

double product(const Vector& a, const Vector& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

// The stored numbers are rounded.
Vector expected(const json& c, const char* pooling) {
  Vector vector;
  for (int x : c[pooling]) vector.push_back(float(x) * 1e-5f);
  return vector;
}

TEST_F(EmbeddingsTest, AreTheMeansOfMlxLmsStates) {
  json texts = json::array();
  for (const auto& c : cases_) texts.push_back(c["text"]);
  const auto reply = embed(texts);
  const auto body = reply.body();
  EXPECT_EQ(body["object"], "list");
  EXPECT_EQ(body["model"], server_->model_id());
  ASSERT_EQ(body["data"].size(), cases_.size());
  size_t tokens = 0;
  for (size_t i = 0; i < cases_.size(); ++i) {
    SCOPED_TRACE(cases_[i]["text"]);
    tokens += cases_[i]["tokens"].size();
    EXPECT_EQ(body["data"][i]["index"], i);
    EXPECT_EQ(body["data"][i]["object"], "embedding");
    const auto found = vector(reply, int(i)), wanted = expected(cases_[i], "mean");
    ASSERT_EQ(found.size(), wanted.size());
    EXPECT_NEAR(product(found, found), 1, 1e-6);
    // Activations are rounded to 16 bits: 3e-4 at most, of numbers about 0.04.
    for (size_t k = 0; k < found.size(); ++k) EXPECT_NEAR(found[k], wanted[k], 1e-3) << k;
    EXPECT_GT(product(found, wanted), 0.9999);
    if (cases_[i]["tokens"].size() > 1) {
      EXPECT_LT(product(found, expected(cases_[i], "last")), 0.99);
    }
  }
  EXPECT_EQ(body["usage"], (json{{"prompt_tokens", tokens}, {"total_tokens", tokens}}));
}

TEST_F(EmbeddingsTest, TakeTextsAndTokensAloneAndInLists) {
  const auto& c = cases_[1];
  const auto wanted = vector(embed(c["text"]));
  const auto same = [&](const Vector& found) { return product(found, wanted) > 1 - 1e-6; };
  EXPECT_TRUE(same(vector(embed(c["tokens"]))));
  EXPECT_TRUE(same(vector(embed(json::array({c["text"]})))));
  EXPECT_TRUE(same(vector(embed(json::array({c["tokens"], cases_[0]["tokens"]})))));
  EXPECT_FALSE(same(vector(embed(cases_[0]["text"]))));
}

TEST_F(EmbeddingsTest, AreTheSameWhateverComesWithThem) {
  json texts = json::array();
  for (int i = 0; i < 40; ++i) {
    std::string text = "Number";
    for (int k = 0; k <= i * 7 % 19; ++k) text += " " + std::to_string(i + k);
    texts.push_back(text);
  }
  const auto together = embed(texts);
  for (int i : {0, 5, 18, 39}) {
    EXPECT_GT(product(vector(together, i), vector(embed(texts[i]))), 1 - 1e-5) << texts[i];
  }
}

TEST_F(EmbeddingsTest, AreWrittenAsBytesToo) {
  const auto wanted = vector(embed("Hello"));
  const auto text = embed("Hello", {{"encoding_format", "base64"}}).body()["data"][0]["embedding"].get<std::string>();
  static const std::string kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int n = 0;
  for (char c : text.substr(0, text.find('='))) {
    bits = bits << 6 | uint32_t(kDigits.find(c));
    if ((n += 6) >= 8) bytes += char(bits >> (n -= 8));
  }
  Vector found(bytes.size() / sizeof(float));
  std::memcpy(found.data(), bytes.data(), found.size() * sizeof(float));
  EXPECT_EQ(found, wanted);
}

TEST_F(EmbeddingsTest, LeaveChatsTheirTurns) {
  const json chat = {{"messages", {{{"role", "user"}, {"content", "What is the capital of France?"}}}},
                     {"max_tokens", 16}};
  std::string words;
  for (int i = 0; i < 1500; ++i) words += " word";
  auto embedding = std::async(std::launch::async, [&] { return embed(words); });
  for (int i = 0; i < 3; ++i) {
    const auto reply = post("/v1/chat/completions", chat);
    EXPECT_EQ(reply.body()["choices"][0]["message"]["content"], "The capital of France is Paris.");
  }
  EXPECT_EQ(embedding.get().status, 200);
}

TEST_F(EmbeddingsTest, NameTheFieldThatIsWrong) {
  const auto param = [](const json& body) {
    const auto reply = post("/v1/embeddings", body);
    EXPECT_EQ(reply.status, 400) << body;
    return reply.body()["error"]["param"];
  };
  EXPECT_EQ(param(json::object()), "input");
  EXPECT_EQ(param({{"input", ""}}), "input");
  EXPECT_EQ(param({{"input", json::array()}}), "input");
  EXPECT_EQ(param({{"input", 1}}), "input");
  EXPECT_EQ(param({{"input", {"a", ""}}}), "input[1]");
  EXPECT_EQ(param({{"input", {"a", 1}}}), "input[1]");
  EXPECT_EQ(param({{"input", {1, "a"}}}), "input[1]");
  EXPECT_EQ(param({{"input", {1, -1}}}), "input[1]");
  EXPECT_EQ(param({{"input", {1.5}}}), "input[0]");
  EXPECT_EQ(param({{"input", {{1}, {1, 49152}}}}), "input[1][1]");
  EXPECT_EQ(param({{"input", {{1}, json::array()}}}), "input[1]");
  EXPECT_EQ(param({{"input", std::vector<std::string>(2049, "a")}}), "input");
  EXPECT_EQ(param({{"input", std::vector<int>(8193, 1)}}), "input");
  EXPECT_EQ(param({{"input", std::vector<std::vector<int>>(37, std::vector<int>(8192, 1))}}), "input");
  EXPECT_EQ(param({{"input", "a"}, {"encoding_format", "hex"}}), "encoding_format");
  EXPECT_EQ(param({{"input", "a"}, {"dimensions", 64}}), "dimensions");
  EXPECT_EQ(param({{"input", "a"}, {"dimensions", 0}}), "dimensions");
  EXPECT_EQ(param({{"input", "a"}, {"user", 1}}), "user");
  EXPECT_EQ(post("/v1/embeddings", {{"input", "a"}, {"model", "../a"}}).status, 404);
  EXPECT_EQ(get("/v1/embeddings").status, 405);
  EXPECT_EQ(embed("a", {{"dimensions", 576}}).status, 200);
}

TEST(EmbeddingsOfLittleMemory, WaitForItOrAreRefused) {
  auto options = options_of();
  options.engine.memory = size_t(30) << 20;  // 512 tokens take about 23 MB
  const RunningServer server(std::move(options));
  const auto embed = [&](int tokens) {
    return server.post("/v1/embeddings", {{"input", std::vector<int>(tokens, 1)}});
  };
  const auto chat = [&] {
    return server.post("/v1/chat/completions",
                       {{"messages", {{{"role", "user"}, {"content", "Hello"}}}}, {"max_tokens", 400}});
  };
  EXPECT_EQ(embed(400).status, 200);
  const auto refused = embed(4000);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.body()["error"]["code"], "out_of_memory");
  // What was refused and what was done have given the memory back.
  EXPECT_EQ(chat().status, 200);
  auto embedding = std::async(std::launch::async, embed, 400);
  EXPECT_EQ(chat().status, 200);
  EXPECT_EQ(embedding.get().status, 200);
}

}  // namespace
}  // namespace mlx_lm::serve
