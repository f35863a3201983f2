// The whole server with the default model, over HTTP.
#include "mlx_lm/serve/server.h"

#include <future>
#include <thread>

#include <gtest/gtest.h>

#include "tests/serve/running_server.h"

namespace mlx_lm::serve {
namespace {

class ServerTest : public DefaultServer {
 protected:
  static Reply chat(json more, const std::string& message = "What is the capital of France?") {
    more["messages"] = {{{"role", "user"}, {"content", message}}};
    if (!more.contains("max_tokens")) more["max_tokens"] = 16;
    return post("/v1/chat/completions", more);
  }
  static std::string content(const Reply& reply) {
    return reply.body()["choices"][0]["message"]["content"].get<std::string>();
  }
  // The events of a stream, without the last, which is [DONE].
  static std::vector<json> events(const Reply& reply) {
    std::vector<json> events;
    bool done = false;
    for (size_t at = 0; at < reply.text.size();) {
      const auto end = reply.text.find("\n\n", at);
      const auto line = reply.text.substr(at, end - at);
      at = end + 2;
      EXPECT_FALSE(done) << line;
      if (line.starts_with(":")) continue;
      EXPECT_TRUE(line.starts_with("data: ")) << line;
      if (line == "data: [DONE]") {
        done = true;
      } else {
        events.push_back(json::parse(line.substr(6)));
      }
    }
    EXPECT_TRUE(done);
    return events;
  }
};

const json kTool = {{"type", "function"},
                    {"function",
                     {{"name", "get_weather"},
                      {"parameters",
                       {{"type", "object"},
                        {"properties", {{"unit", {{"enum", {"C", "F"}}}}, {"city", {{"type", "string"}}}}},
                        {"required", {"unit", "city"}},
                        {"additionalProperties", false}}}}}};

TEST_F(ServerTest, AnswersAndCounts) {
  const auto body = chat({}).body();
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "The capital of France is Paris.");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["prompt_tokens"], 37);
  EXPECT_EQ(body["usage"]["completion_tokens"], 8);
  EXPECT_EQ(chat({{"max_tokens", 3}}).body()["choices"][0]["finish_reason"], "length");
}

TEST_F(ServerTest, StreamsTheSameText) {
  const auto chunks = events(chat({{"stream", true}, {"stream_options", {{"include_usage", true}}}}));
  ASSERT_GT(chunks.size(), 4u);
  EXPECT_EQ(chunks[0]["choices"][0]["delta"], (json{{"role", "assistant"}, {"content", ""}}));
  std::string text;
  for (const auto& chunk : chunks) {
    EXPECT_EQ(chunk["id"], chunks[0]["id"]);
    for (const auto& choice : chunk["choices"]) text += choice["delta"].value("content", "");
  }
  EXPECT_EQ(text, "The capital of France is Paris.");
  EXPECT_EQ(chunks[chunks.size() - 2]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(chunks.back()["choices"], json::array());
  EXPECT_EQ(chunks.back()["usage"]["total_tokens"], 45);
}

TEST_F(ServerTest, TakesStopWordsSeedsAndSeveralAnswers) {
  EXPECT_EQ(content(chat({{"stop", " France"}})), "The capital of");
  const json seeded = {{"temperature", 1.0}, {"seed", 7}, {"n", 2}};
  const auto first = chat(seeded).body()["choices"], again = chat(seeded).body()["choices"];
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first, again);
  EXPECT_NE(first[0]["message"], first[1]["message"]);
}

TEST_F(ServerTest, ReportsLogprobs) {
  const auto tokens = chat({{"logprobs", true}, {"top_logprobs", 2}}).body()["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(tokens.size(), 7u);
  EXPECT_EQ(tokens[1]["token"], " capital");
  EXPECT_EQ(tokens[1]["top_logprobs"].size(), 2u);
  EXPECT_EQ(tokens[1]["logprob"], tokens[1]["top_logprobs"][0]["logprob"]);
}

TEST_F(ServerTest, KeepsToSchemasInTheirOrder) {
  const json schema = {{"type", "object"},
                       {"properties", {{"zip", {{"type", "integer"}}}, {"city", {{"type", "string"}}}}},
                       {"required", {"zip", "city"}},
                       {"additionalProperties", false}};
  const auto text = content(chat({{"response_format", {{"type", "json_schema"}, {"json_schema", {{"schema", schema}}}}},
                                  {"max_tokens", 100},
                                  {"temperature", 1},
                                  {"seed", 1}}));
  const auto value = json::parse(text);
  ASSERT_EQ(value.size(), 2u) << text;
  EXPECT_EQ(value.begin().key(), "zip");
  EXPECT_TRUE(value["zip"].is_number_integer() && value["city"].is_string()) << text;
}

TEST_F(ServerTest, CallsToolsAsTheRequestAsks) {
  const json request = {
      {"tools", {kTool}}, {"tool_choice", "required"}, {"parallel_tool_calls", false}, {"max_tokens", 80}};
  const auto choice = chat(request, "Weather in Paris?").body()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  ASSERT_EQ(choice["message"]["tool_calls"].size(), 1u);
  const auto call = choice["message"]["tool_calls"][0]["function"];
  EXPECT_EQ(call["name"], "get_weather");
  const auto arguments = json::parse(call["arguments"].get<std::string>());
  EXPECT_TRUE(arguments["unit"] == "C" || arguments["unit"] == "F");

  auto streamed = request;
  streamed["stream"] = true;
  std::string text;
  int pieces = 0;
  for (const auto& chunk : events(chat(streamed, "Weather in Paris?"))) {
    for (const auto& c : chunk["choices"]) {
      if (!c["delta"].contains("tool_calls")) continue;
      text += c["delta"]["tool_calls"][0]["function"].value("arguments", "");
      pieces += 1;
    }
  }
  EXPECT_EQ(text, call["arguments"]);
  EXPECT_GT(pieces, 3);
}

TEST_F(ServerTest, ControlTokensInAMessageAreText) {
  // As tokens they would be one each.
  const auto count = [](const std::string& message) { return chat({}, message).body()["usage"]["prompt_tokens"]; };
  EXPECT_GT(count("a<|im_end|><|im_start|>b").get<int>(), count("ab").get<int>() + 6);
}

TEST_F(ServerTest, ManyClientsGetTheAnswersThatTheyGetAlone) {
  std::vector<std::string> alone;
  std::vector<std::future<std::string>> together;
  const auto ask = [](int i) { return content(chat({}, "Say something about the number " + std::to_string(i))); };
  for (int i = 0; i < 16; ++i) alone.push_back(ask(i));
  for (int i = 0; i < 16; ++i) together.push_back(std::async(std::launch::async, ask, i));
  for (int i = 0; i < 16; ++i) EXPECT_EQ(together[i].get(), alone[i]) << i;
}

int cached(const Reply& reply) { return reply.body()["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>(); }

TEST_F(ServerTest, GoesOnFromWhatAnEarlierTextBeganWith) {
  std::string facts = "Remember these numbers:";
  for (int i = 0; i < 60; ++i) facts += " " + std::to_string(i * i);
  const auto first = chat({}, facts + ". Say one of them."), again = chat({}, facts + ". Say one of them."),
             other = chat({}, facts + ". Say another.");
  const int total = first.body()["usage"]["prompt_tokens"];
  EXPECT_LT(cached(first), 40);
  EXPECT_EQ(cached(again), total - 1);
  EXPECT_EQ(content(again), content(first));
  EXPECT_GT(cached(other), total - 20);
  // The conversation goes on: what was answered is there too.
  json messages = {{{"role", "user"}, {"content", facts + ". Say one of them."}},
                   {{"role", "assistant"}, {"content", content(first)}},
                   {{"role", "user"}, {"content", "Thanks."}}};
  EXPECT_GE(cached(post("/v1/chat/completions", {{"messages", messages}, {"max_tokens", 2}})), total + 8);
}

TEST_F(ServerTest, TextsThatComeTogetherComputeWhatTheyShareOnce) {
  std::string facts = "These are letters:";
  for (int i = 0; i < 100; ++i) facts += std::string(" ") + char('a' + i * 7 % 26);
  const auto reply = chat({{"n", 4}}, facts);
  const auto choices = reply.body()["choices"];
  EXPECT_EQ(cached(reply), reply.body()["usage"]["prompt_tokens"].get<int>() - 1);
  for (const auto& choice : choices) EXPECT_EQ(choice["message"], choices[0]["message"]);
}

TEST(ServerWithDrafts, AnswersTheSame) {
  std::vector<std::string> texts;
  for (const bool drafts : {false, true}) {
    ServerOptions options;
    options.http.port = 0;
    options.models.model = default_model_path().string();
    if (drafts) options.models.draft_model = options.models.model;
    Server server(options);
    std::thread thread([&] { server.run(); });
    std::vector<std::future<Reply>> replies;
    for (int i = 0; i < 3; ++i) {
      json body = {{"messages", {{{"role", "user"}, {"content", "Count from " + std::to_string(i) + " to 20."}}}},
                   {"max_tokens", 40}};
      if (i == 2) body["temperature"] = 1, body["seed"] = 5;
      replies.push_back(std::async(std::launch::async, [&server, body] {
        return send_to(server.port(), http::verb::post, "/v1/chat/completions", body.dump());
      }));
    }
    for (auto& reply : replies) {
      texts.push_back(reply.get().body()["choices"][0]["message"]["content"].get<std::string>());
    }
    server.stop(std::chrono::seconds(5));
    thread.join();
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(texts[i], texts[i + 3]);
}

// Gemma 3's sliding layers cannot be cut: what conversations share is held where the system message ends.
TEST(ServerOfSlidingModel, HoldsSystemMessagesAlsoForTheNextStart) {
  const auto dir = std::filesystem::path(testing::TempDir()) / "mlx_lm_server_test_prompt_caches";
  std::filesystem::remove_all(dir);
  auto options = options_of(default_model_path().parent_path() / "gemma-3-270m-q4_k_m.gguf");
  options.engine.prefixes.disk.dir = dir;
  std::string rules = "You answer questions on this list:";
  for (int i = 0; i < 300; ++i) rules += " " + std::to_string(i * 7);
  const auto ask = [&](const RunningServer& server, const std::string& question) {
    const json messages = {{{"role", "system"}, {"content", rules}}, {{"role", "user"}, {"content", question}}};
    return server.post("/v1/chat/completions", {{"messages", messages}, {"max_tokens", 4}});
  };
  std::string answer;
  for (const bool first_start : {true, false}) {
    const RunningServer server(options);
    if (first_start) {
      EXPECT_EQ(cached(ask(server, "What is the first number?")), 0);
    }
    const auto reply = ask(server, "And the last one?");
    EXPECT_GT(cached(reply), 1000);
    EXPECT_LT(cached(reply), reply.body()["usage"]["prompt_tokens"].get<int>());
    const auto text = reply.body()["choices"][0]["message"]["content"].get<std::string>();
    if (!first_start) {
      EXPECT_EQ(text, answer);
    }
    answer = text;
  }
  std::filesystem::remove_all(dir);
}

TEST_F(ServerTest, NamesTheFieldThatIsWrong) {
  const auto param = [](const json& body) {
    const auto reply = post("/v1/chat/completions", body);
    EXPECT_EQ(reply.status, 400) << body;
    return reply.body()["error"]["param"];
  };
  const json ok = {{{"role", "user"}, {"content", "hi"}}};
  EXPECT_EQ(param(json::object()), "messages");
  EXPECT_EQ(param({{"messages", json::array()}}), "messages");
  EXPECT_EQ(param({{"messages", {{{"role", "king"}, {"content", "hi"}}}}}), "messages[0].role");
  EXPECT_EQ(param({{"messages", {{{"role", "user"}, {"content", 1}}}}}), "messages[0].content");
  EXPECT_EQ(param({{"messages", ok}, {"temperature", -1}}), "temperature");
  EXPECT_EQ(param({{"messages", ok}, {"n", 1000000}}), "n");
  EXPECT_EQ(param({{"messages", ok}, {"max_tokens", 1e300}}), "max_tokens");
  EXPECT_EQ(param({{"messages", ok}, {"logit_bias", {{"99999999", 1}}}}), "logit_bias");
  EXPECT_EQ(param({{"messages", ok}, {"chat_template_kwargs", {{"messages", 1}}}}), "chat_template_kwargs.messages");
  EXPECT_EQ(param({{"messages", ok}, {"regex", "("}}), "response_format");
  EXPECT_EQ(param({{"messages", ok}, {"tools", {{{"type", "function"}}}}}), "tools[0].function");
  EXPECT_EQ(send(http::verb::post, "/v1/chat/completions", std::string(10'000, '[')).status, 400);
  EXPECT_EQ(send(http::verb::post, "/v1/chat/completions", "{\"messages\": NaN}").status, 400);
  EXPECT_EQ(post("/v1/chat/completions", {{"messages", ok}, {"model", "../../etc/passwd"}}).status, 404);
  EXPECT_EQ(get("/v1/chat/completions").status, 405);
  EXPECT_EQ(get("/nothing").status, 404);
  EXPECT_EQ(chat({}).status, 200);
}

TEST_F(ServerTest, TellsOfItsModelsHealthAndFigures) {
  EXPECT_EQ(get("/health").body()["status"], "ok");
  const auto models = get("/v1/models").body()["data"];
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0]["id"], server_->model_id());
  EXPECT_EQ(get("/v1/models/" + server_->model_id()).body(), models[0]);
  chat({});
  EXPECT_NE(get("/metrics").text.find("mlx_lm_generation_tokens_total"), std::string::npos);
  EXPECT_NE(get("/").text.find("<html"), std::string::npos);
}

TEST_F(ServerTest, TellsHeadersAlone) {
  const std::vector<std::string> paths = {"/v1/models", "/v1/models/" + server_->model_id(), "/health"};
  for (const auto& path : paths) {
    const auto whole = get(path), head = send(http::verb::head, path);
    EXPECT_EQ(head.status, 200) << path;
    EXPECT_EQ(head.text, "");
    EXPECT_EQ(head.headers[http::field::content_length], whole.headers[http::field::content_length]);
  }
  EXPECT_EQ(send(http::verb::head, "/v1/models/other").status, 404);
  EXPECT_EQ(send(http::verb::head, "/v1/chat/completions").status, 405);
  EXPECT_EQ(send(http::verb::post, "/v1/models/" + server_->model_id()).status, 405);
}

TEST_F(ServerTest, CompletesTexts) {
  const auto body = post("/v1/completions", {{"prompt", "The capital of France is"}, {"max_tokens", 4}}).body();
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_NE(body["choices"][0]["text"].get<std::string>().find("Paris"), std::string::npos);
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
}

}  // namespace
}  // namespace mlx_lm::serve
