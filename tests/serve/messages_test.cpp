// /v1/messages and /v1/messages/count_tokens over HTTP.
#include <set>

#include "tests/generate/thinking_model.h"
#include "tests/serve/running_server.h"

namespace mlx_lm::serve {
namespace {

const json kTool = {{"name", "get_time"},
                    {"description", "The time"},
                    {"input_schema",
                     {{"type", "object"},
                      {"properties", {{"zone", {{"enum", {"CET", "UTC"}}}}}},
                      {"required", {"zone"}},
                      {"additionalProperties", false}}}};
const json kAsk = {{{"role", "user"}, {"content", "What is the capital of France?"}}};

class MessagesTest : public DefaultServer {
 protected:
  static Reply ask(json more = json::object(), const char* path = "/v1/messages") {
    if (!more.contains("messages")) more["messages"] = kAsk;
    if (!more.contains("max_tokens")) more["max_tokens"] = 16;
    return post(path, more);
  }
  static int count(const json& more) {
    return ask(more, "/v1/messages/count_tokens").body()["input_tokens"].get<int>();
  }
};

// The message that a stream's events make, as a client puts it together; checks their order.
json assembled(const std::vector<json>& events) {
  json message;
  std::string arguments;
  bool open = false;
  for (const auto& event : events) {
    const auto type = event["type"].get<std::string>();
    if (type == "ping") continue;
    EXPECT_EQ(type == "message_start", message.is_null());
    if (type == "message_start") {
      message = event["message"];
      EXPECT_EQ(message["content"], json::array());
    } else if (type == "content_block_start") {
      EXPECT_FALSE(std::exchange(open, true));
      EXPECT_EQ(event["index"], message["content"].size());
      message["content"].push_back(event["content_block"]);
      arguments.clear();
    } else if (type == "content_block_delta") {
      EXPECT_TRUE(open);
      auto& block = message["content"].back();
      const auto& delta = event["delta"];
      EXPECT_EQ(event["index"], message["content"].size() - 1);
      const auto grow = [&](const char* key) {
        block[key] = block[key].get<std::string>() + delta[key].get<std::string>();
      };
      if (delta["type"] == "text_delta") {
        grow("text");
      } else if (delta["type"] == "thinking_delta") {
        grow("thinking");
      } else {
        EXPECT_EQ(delta["type"], "input_json_delta");
        arguments += delta["partial_json"].get<std::string>();
      }
    } else if (type == "content_block_stop") {
      EXPECT_TRUE(std::exchange(open, false));
      if (message["content"].back()["type"] == "tool_use") {
        message["content"].back()["input"] = json::parse(arguments);
      }
    } else if (type == "message_delta") {
      message.update(event["delta"]);
      message["usage"].update(event["usage"]);
    } else {
      EXPECT_EQ(type, "message_stop");
    }
  }
  EXPECT_FALSE(open);
  EXPECT_EQ(events.back(), (json{{"type", "message_stop"}}));
  return message;
}

// What differs from one answer to the next.
json without_ids(json message) {
  message.erase("id");
  message.erase("usage");
  for (auto& block : message["content"]) block.erase("id");
  return message;
}

TEST_F(MessagesTest, AnswerWholeAndStreamed) {
  const auto whole = ask({{"model", server_->model_id()}}).body();
  EXPECT_TRUE(whole["id"].get<std::string>().starts_with("msg_"));
  EXPECT_EQ(whole["type"], "message");
  EXPECT_EQ(whole["role"], "assistant");
  EXPECT_EQ(whole["model"], server_->model_id());
  EXPECT_EQ(whole["content"], (json{{{"type", "text"}, {"text", "The capital of France is Paris."}}}));
  EXPECT_EQ(whole["stop_reason"], "end_turn");
  EXPECT_TRUE(whole["stop_sequence"].is_null());
  const auto usage = whole["usage"];
  EXPECT_EQ(usage["input_tokens"].get<int>() + usage["cache_read_input_tokens"].get<int>(), 37);
  EXPECT_EQ(usage["output_tokens"], 8);
  const auto streamed = assembled(named_events(ask({{"stream", true}})));
  EXPECT_EQ(without_ids(streamed), without_ids(whole));
  EXPECT_EQ(streamed["usage"]["output_tokens"], 8);
  // The second time the prompt is there.
  EXPECT_EQ(streamed["usage"]["cache_read_input_tokens"], 36);
}

TEST_F(MessagesTest, SayWhyTheyEnd) {
  const auto reasons = [](const json& more) {
    auto streamed = more;
    streamed["stream"] = true;
    const auto body = ask(more).body();
    EXPECT_EQ(without_ids(assembled(named_events(ask(streamed)))), without_ids(body));
    return json{body["stop_reason"], body["stop_sequence"]};
  };
  EXPECT_EQ(reasons({{"max_tokens", 2}}), (json{"max_tokens", nullptr}));
  EXPECT_EQ(reasons({{"stop_sequences", {"x y z", " France"}}}), (json{"stop_sequence", " France"}));
  EXPECT_EQ(reasons({{"stop_sequences", {"x y z"}}}), (json{"end_turn", nullptr}));
}

TEST_F(MessagesTest, ReadSystemTextsAndBlocks) {
  const int plain = count(json::object());
  const int with_system = count({{"system", "You speak like a pirate."}});
  EXPECT_NE(with_system, plain);
  const json blocks = {{{"type", "text"}, {"text", "You speak "}},
                       {{"type", "text"}, {"text", "like a pirate."}, {"cache_control", {{"type", "ephemeral"}}}}};
  EXPECT_EQ(count({{"system", blocks}}), with_system);
  EXPECT_EQ(count({{"messages", {{{"role", "user"}, {"content", {{{"type", "text"}, {"text", "Hi"}}}}}}}}),
            count({{"messages", {{{"role", "user"}, {"content", "Hi"}}}}}));
  EXPECT_EQ(ask({{"system", blocks}, {"metadata", {{"user_id", "me"}}}}).status, 200);
}

TEST_F(MessagesTest, GoOnWithTheBeginningOfAnAnswer) {
  auto messages = kAsk;
  messages.push_back({{"role", "assistant"}, {"content", "The capital of France is"}});
  const auto text = ask({{"messages", messages}}).body()["content"][0]["text"].get<std::string>();
  EXPECT_TRUE(text.starts_with("Paris")) << text;
}

TEST_F(MessagesTest, CallTools) {
  for (const json& choice : {json{{"type", "any"}}, json{{"type", "tool"}, {"name", "get_time"}}}) {
    const json request = {{"tools", {kTool}}, {"tool_choice", choice}, {"max_tokens", 80}};
    const auto body = ask(request).body();
    EXPECT_EQ(body["stop_reason"], "tool_use");
    ASSERT_EQ(body["content"].size(), 1u) << body;
    const auto block = body["content"][0];
    EXPECT_EQ(block["type"], "tool_use");
    EXPECT_EQ(block["name"], "get_time");
    EXPECT_FALSE(block["id"].get<std::string>().empty());
    EXPECT_TRUE(block["input"]["zone"] == "CET" || block["input"]["zone"] == "UTC") << block;
    auto streamed = request;
    streamed["stream"] = true;
    EXPECT_EQ(without_ids(assembled(named_events(ask(streamed)))), without_ids(body));

    auto messages = kAsk;
    messages.push_back({{"role", "assistant"}, {"content", body["content"]}});
    messages.push_back(
        {{"role", "user"},
         {"content",
          {{{"type", "tool_result"}, {"tool_use_id", block["id"]}, {"content", {{{"type", "text"}, {"text", "9:00"}}}}},
           {{"type", "text"}, {"text", "So what time is it?"}}}}});
    const auto again = ask({{"tools", {kTool}}, {"messages", messages}});
    EXPECT_EQ(again.status, 200) << again.text;
  }
  const auto text = ask({{"tools", {kTool}}, {"tool_choice", {{"type", "none"}}}}).body();
  EXPECT_EQ(text["content"][0]["text"], "The capital of France is Paris.");
  EXPECT_EQ(ask({{"tools", {kTool}}, {"tool_choice", {{"type", "auto"}}}}).status, 200);
}

TEST_F(MessagesTest, CountWhatTheyWouldRead) {
  const auto usage = ask({{"tools", {kTool}}, {"system", "Be brief."}}).body()["usage"];
  EXPECT_EQ(count({{"tools", {kTool}}, {"system", "Be brief."}}),
            usage["input_tokens"].get<int>() + usage["cache_read_input_tokens"].get<int>());
  const auto reply = post("/v1/messages/count_tokens", {{"messages", kAsk}});  // needs no max_tokens
  EXPECT_EQ(reply.body(), (json{{"input_tokens", 37}}));
}

TEST_F(MessagesTest, KeepToASchema) {
  const json format = {{"type", "json_schema"}, {"schema", kTool["input_schema"]}};
  const auto body = ask({{"output_config", {{"format", format}}}, {"max_tokens", 60}}).body();
  EXPECT_EQ(json::parse(body["content"][0]["text"].get<std::string>()).size(), 1u) << body;
}

TEST_F(MessagesTest, NameTheFieldThatIsWrong) {
  const auto check = [](json body, const std::string& field) {
    const json given = body;
    if (!body.contains("messages")) body["messages"] = kAsk;
    if (!body.contains("max_tokens")) body["max_tokens"] = 4;
    for (const auto* key : {"messages", "max_tokens"}) {
      if (body[key] == "absent") body.erase(key);
    }
    const auto reply = post("/v1/messages", body);
    EXPECT_EQ(reply.status, 400) << given;
    const auto error = reply.body();
    EXPECT_EQ(error["type"], "error");
    EXPECT_EQ(error["error"]["type"], "invalid_request_error");
    EXPECT_FALSE(error["request_id"].get<std::string>().empty());
    EXPECT_TRUE(error["error"]["message"].get<std::string>().starts_with(field + ": expected")) << error;
  };
  const auto message = [](const json& content, const char* role = "user") {
    return json{{"messages", {{{"role", role}, {"content", content}}}}};
  };
  check({{"messages", "absent"}}, "messages");
  check({{"messages", json::array()}}, "messages");
  check({{"messages", {1}}}, "messages[0]");
  check({{"max_tokens", "absent"}}, "max_tokens");
  check({{"max_tokens", 0.5}}, "max_tokens");
  check(message("x", "system"), "messages[0].role");
  check(message(1), "messages[0].content");
  check(message({{{"type", "image"}}}), "messages[0].content[0].type");
  check(message({{{"type", "text"}}}), "messages[0].content[0].text");
  check(message({{{"type", "tool_result"}, {"content", "x"}}}), "messages[0].content[0].tool_use_id");
  check(message({{{"type", "tool_use"}, {"id", "1"}, {"name", "f"}, {"input", 1}}}, "assistant"),
        "messages[0].content[0].input");
  check(message({{{"type", "thinking"}}}, "assistant"), "messages[0].content[0].thinking");
  check({{"system", 1}}, "system");
  check({{"system", {{{"type", "image"}}}}}, "system[0].type");
  check({{"temperature", -1}}, "temperature");
  check({{"top_p", 2}}, "top_p");
  check({{"top_k", 1.5}}, "top_k");
  check({{"stop_sequences", {1}}}, "stop_sequences");
  check({{"stream", 1}}, "stream");
  check({{"metadata", 1}}, "metadata");
  check({{"thinking", {{"type", "hard"}}}}, "thinking.type");
  check({{"tools", {{{"name", "f"}}}}}, "tools[0].input_schema");
  check({{"tools", {{{"type", "web_search_20250305"}, {"name", "web_search"}}}}}, "tools[0].type");
  check({{"tools", {kTool}}, {"tool_choice", "any"}}, "tool_choice");
  check({{"tools", {kTool}}, {"tool_choice", {{"type", "all"}}}}, "tool_choice.type");
  check({{"tools", {kTool}}, {"tool_choice", {{"type", "tool"}}}}, "tool_choice.name");
  check({{"tools", {kTool}}, {"tool_choice", {{"type", "tool"}, {"name", "f"}}}}, "tool_choice.name");
  check({{"tool_choice", {{"type", "any"}}}}, "tools");
  const auto unknown = post("/v1/messages", {{"model", "other"}, {"messages", kAsk}, {"max_tokens", 1}});
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(unknown.body()["error"]["type"], "not_found_error");
  EXPECT_EQ(send(http::verb::post, "/v1/messages", "{").body()["type"], "error");
  EXPECT_EQ(send(http::verb::post, "/v1/messages/count_tokens", "[]").body()["type"], "error");
}

// A random model: one of the seeds has it stop thinking in time.
TEST(MessagesOfThinkingModel, ShowWhatItThinksInABlock) {
  const TempFolder folder;
  thinking_model("<think>").write(folder);
  const RunningServer server(options_of(folder.path()));
  bool found = false;
  for (int seed = 0; seed < 40 && !found; ++seed) {
    json request = {{"messages", {{{"role", "user"}, {"content", "hi"}}}},
                    {"max_tokens", 24},
                    {"temperature", 1},
                    {"seed", seed},
                    {"logit_bias", {{"2", 3}}}};
    const auto body = server.post("/v1/messages", request).body();
    found = body["content"].size() == 2;
    if (!found) continue;
    EXPECT_EQ(body["content"][0]["type"], "thinking");
    EXPECT_FALSE(body["content"][0]["thinking"].get<std::string>().empty());
    EXPECT_EQ(body["content"][0]["signature"], "");
    EXPECT_EQ(body["content"][1]["type"], "text");
    request["stream"] = true;
    EXPECT_EQ(without_ids(assembled(named_events(server.post("/v1/messages", request)))), without_ids(body));
    // It may come back in the conversation.
    request["messages"].push_back({{"role", "assistant"}, {"content", body["content"]}});
    request["messages"].push_back({{"role", "user"}, {"content", "and?"}});
    EXPECT_EQ(server.post("/v1/messages", request).status, 200);
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace mlx_lm::serve
