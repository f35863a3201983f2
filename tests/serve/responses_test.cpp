// /v1/responses over HTTP.
#include "tests/generate/thinking_model.h"
#include "tests/serve/running_server.h"

namespace mlx_lm::serve {
namespace {

const json kTool = {{"type", "function"},
                    {"name", "get_time"},
                    {"description", "The time"},
                    {"strict", true},
                    {"parameters",
                     {{"type", "object"},
                      {"properties", {{"zone", {{"enum", {"CET", "UTC"}}}}}},
                      {"required", {"zone"}},
                      {"additionalProperties", false}}}};
const char* kQuestion = "What is the capital of France?";

class ResponsesTest : public DefaultServer {
 protected:
  static Reply ask(json more = json::object()) {
    if (!more.contains("input")) more["input"] = kQuestion;
    if (!more.contains("max_output_tokens")) more["max_output_tokens"] = 16;
    return post("/v1/responses", more);
  }
  static json streamed(json more);
};

// The response at the end of a stream, which its events must have told before.
json assembled(const std::vector<json>& events) {
  EXPECT_GE(events.size(), 3u);
  EXPECT_EQ(events[0]["type"], "response.created");
  EXPECT_EQ(events[1]["type"], "response.in_progress");
  for (size_t i : {0, 1}) EXPECT_EQ(events[i]["response"]["status"], "in_progress");
  auto output = json::array();
  std::string text;
  bool in_item = false, in_part = false;
  for (size_t i = 0; i < events.size(); ++i) {
    const auto& event = events[i];
    EXPECT_EQ(event["sequence_number"], i);
    const auto type = event["type"].get<std::string>();
    if (event.contains("output_index")) {
      EXPECT_EQ(event["output_index"], output.size() - (type.ends_with("item.added") ? 0 : 1)) << event;
    }
    if (event.contains("item_id")) {
      EXPECT_EQ(event["item_id"], output.back()["id"]);
    }
    if (type == "response.output_item.added") {
      EXPECT_FALSE(std::exchange(in_item, true));
      EXPECT_EQ(event["item"]["status"], "in_progress");
      output.push_back(event["item"]);
      text.clear();
    } else if (type == "response.content_part.added") {
      EXPECT_FALSE(std::exchange(in_part, true));
      EXPECT_EQ(event["part"]["text"], "");
    } else if (type.ends_with(".delta")) {
      text += event["delta"].get<std::string>();
    } else if (type == "response.output_text.done" || type == "response.reasoning_text.done") {
      EXPECT_EQ(event["text"], text);
    } else if (type == "response.function_call_arguments.done") {
      EXPECT_EQ(event["arguments"], text);
    } else if (type == "response.content_part.done") {
      EXPECT_TRUE(std::exchange(in_part, false));
      EXPECT_EQ(event["part"]["text"], text);
    } else if (type == "response.output_item.done") {
      EXPECT_TRUE(std::exchange(in_item, false));
      EXPECT_FALSE(in_part);
      EXPECT_EQ(event["item"]["id"], output.back()["id"]);
      output.back() = event["item"];
    } else if (i > 1) {
      EXPECT_EQ(i, events.size() - 1) << event;
      EXPECT_EQ(type, "response." + event["response"]["status"].get<std::string>());
    }
  }
  const auto response = events.back()["response"];
  EXPECT_EQ(response["id"], events[0]["response"]["id"]);
  EXPECT_EQ(response["output"].size(), output.size());
  for (size_t i = 0; i < output.size(); ++i) {
    auto last = response["output"][i];
    last["status"] = output[i]["status"];  // of an answer that was cut, the last one's is known at its end
    EXPECT_EQ(output[i], last);
  }
  return response;
}

json ResponsesTest::streamed(json more) {
  more["stream"] = true;
  return assembled(named_events(ask(more)));
}

// What differs from one answer to the next.
json without_ids(json response) {
  for (const char* key : {"id", "created_at", "usage"}) response.erase(key);
  for (auto& item : response["output"]) {
    item.erase("id");
    item.erase("call_id");
  }
  return response;
}

TEST_F(ResponsesTest, AnswerWholeAndStreamed) {
  const json request = {{"model", server_->model_id()}, {"metadata", {{"a", "b"}}}, {"store", false}};
  const auto whole = ask(request).body();
  EXPECT_TRUE(whole["id"].get<std::string>().starts_with("resp_"));
  EXPECT_EQ(whole["object"], "response");
  EXPECT_EQ(whole["status"], "completed");
  EXPECT_EQ(whole["model"], server_->model_id());
  EXPECT_EQ(whole["metadata"], (json{{"a", "b"}}));
  EXPECT_EQ(whole["store"], false);
  EXPECT_TRUE(whole["error"].is_null());
  ASSERT_EQ(whole["output"].size(), 1u);
  const auto item = whole["output"][0];
  EXPECT_EQ(item["type"], "message");
  EXPECT_EQ(item["role"], "assistant");
  EXPECT_EQ(item["content"][0]["type"], "output_text");
  EXPECT_EQ(item["content"][0]["text"], "The capital of France is Paris.");
  EXPECT_EQ(whole["usage"]["input_tokens"], 37);
  EXPECT_EQ(whole["usage"]["output_tokens"], 8);
  EXPECT_EQ(whole["usage"]["total_tokens"], 45);
  const auto again = streamed(request);
  EXPECT_EQ(without_ids(again), without_ids(whole));
  EXPECT_EQ(again["usage"]["input_tokens_details"]["cached_tokens"], 36);
}

TEST_F(ResponsesTest, AreIncompleteWhenCut) {
  const json request = {{"max_output_tokens", 2}};
  const auto body = ask(request).body();
  EXPECT_EQ(body["status"], "incomplete");
  EXPECT_EQ(body["incomplete_details"], (json{{"reason", "max_output_tokens"}}));
  EXPECT_EQ(body["output"][0]["status"], "incomplete");
  EXPECT_EQ(without_ids(streamed(request)), without_ids(body));
}

TEST_F(ResponsesTest, ReadTextsAndItems) {
  const auto tokens = [](const json& more) { return ask(more).body()["usage"]["input_tokens"].get<int>(); };
  const json item = {{"role", "user"}, {"content", kQuestion}};
  const json parts = {
      {"type", "message"},
      {"role", "user"},
      {"content",
       {{{"type", "input_text"}, {"text", "What is the capital "}}, {{"type", "input_text"}, {"text", "of France?"}}}}};
  EXPECT_EQ(tokens({{"input", {item}}}), 37);
  EXPECT_EQ(tokens({{"input", {parts}}}), 37);
  const int with_instructions = tokens({{"instructions", "You are brief."}});
  EXPECT_NE(with_instructions, 37);
  EXPECT_EQ(tokens({{"input", {{{"role", "developer"}, {"content", "You are brief."}}, item}}}), with_instructions);
}

TEST_F(ResponsesTest, GoOnWithTheirOwnOutput) {
  auto input = json::array({{{"role", "user"}, {"content", kQuestion}}});
  for (const auto& item : ask().body()["output"]) input.push_back(item);
  input.push_back({{"role", "user"}, {"content", "And of Italy?"}});
  const auto text = ask({{"input", input}}).body()["output"][0]["content"][0]["text"].get<std::string>();
  EXPECT_NE(text.find("Rome"), text.npos) << text;
}

TEST_F(ResponsesTest, CallTools) {
  for (const json& choice : {json("required"), json{{"type", "function"}, {"name", "get_time"}}}) {
    const json request = {
        {"tools", {kTool}}, {"tool_choice", choice}, {"parallel_tool_calls", false}, {"max_output_tokens", 80}};
    const auto body = ask(request).body();
    EXPECT_EQ(body["status"], "completed");
    EXPECT_EQ(body["tools"], json::array({kTool}));
    EXPECT_EQ(body["tool_choice"], choice);
    EXPECT_EQ(body["parallel_tool_calls"], false);
    ASSERT_EQ(body["output"].size(), 1u) << body;
    const auto call = body["output"][0];
    EXPECT_EQ(call["type"], "function_call");
    EXPECT_EQ(call["name"], "get_time");
    EXPECT_FALSE(call["call_id"].get<std::string>().empty());
    const auto zone = json::parse(call["arguments"].get<std::string>())["zone"];
    EXPECT_TRUE(zone == "CET" || zone == "UTC") << call;
    EXPECT_EQ(without_ids(streamed(request)), without_ids(body));

    const json result = {{"type", "function_call_output"}, {"call_id", call["call_id"]}, {"output", "9:00"}};
    const json input = {{{"role", "user"}, {"content", kQuestion}}, call, result};
    const auto again = ask({{"tools", {kTool}}, {"input", input}});
    EXPECT_EQ(again.status, 200) << again.text;
  }
  const auto text = ask({{"tools", {kTool}}, {"tool_choice", "none"}}).body();
  EXPECT_EQ(text["output"][0]["content"][0]["text"], "The capital of France is Paris.");
}

TEST_F(ResponsesTest, KeepToFormats) {
  const auto value = [](const json& format) {
    const auto body = ask({{"text", {{"format", format}}},
                           {"max_output_tokens", 60},
                           {"input", "What is the capital of France? Answer as JSON."}})
                          .body();
    EXPECT_EQ(body["text"]["format"], format);
    return json::parse(body["output"][0]["content"][0]["text"].get<std::string>());
  };
  const auto zone = value({{"type", "json_schema"}, {"name", "x"}, {"schema", kTool["parameters"]}, {"strict", true}});
  EXPECT_TRUE(zone["zone"] == "CET" || zone["zone"] == "UTC") << zone;
  EXPECT_TRUE(value({{"type", "json_object"}}).is_object());
  EXPECT_EQ(ask({{"text", {{"format", {{"type", "text"}}}}}}).body()["output"][0]["content"][0]["text"],
            "The capital of France is Paris.");
}

TEST_F(ResponsesTest, NameTheFieldThatIsWrong) {
  const auto check = [](json body, const std::string& field) {
    const json given = body;
    if (!body.contains("input")) body["input"] = "x";
    if (body["input"] == "absent") body.erase("input");
    body["max_output_tokens"] = body.value("max_output_tokens", json(4));
    const auto reply = post("/v1/responses", body);
    EXPECT_EQ(reply.status, 400) << given;
    EXPECT_EQ(reply.body()["error"]["param"], field) << given;
    EXPECT_EQ(reply.body()["error"]["type"], "invalid_request_error");
  };
  check({{"input", "absent"}}, "input");
  check({{"input", json::array()}}, "input");
  check({{"input", 1}}, "input");
  check({{"input", {{{"type", "reasoning"}}}}}, "input");
  check({{"input", {1}}}, "input[0]");
  check({{"input", {{{"role", "king"}, {"content", "x"}}}}}, "input[0].role");
  check({{"input", {{{"role", "user"}}}}}, "input[0].content");
  check({{"input", {{{"role", "user"}, {"content", {{{"type", "input_image"}}}}}}}}, "input[0].content[0].type");
  check({{"input", {{{"type", "item_reference"}, {"id", "x"}}}}}, "input[0].type");
  check({{"input", {{{"type", "function_call"}, {"call_id", "1"}, {"name", "f"}}}}}, "input[0].arguments");
  check({{"input", {{{"type", "function_call_output"}, {"output", "x"}}}}}, "input[0].call_id");
  check({{"input", {{{"type", "function_call_output"}, {"call_id", "1"}}}}}, "input[0].output");
  check({{"input", {{{"type", "reasoning"}, {"content", {{{"type", "reasoning_text"}}}}}}}},
        "input[0].content[0].text");
  check({{"instructions", 1}}, "instructions");
  check({{"previous_response_id", "resp_1"}}, "previous_response_id");
  check({{"conversation", "conv_1"}}, "conversation");
  check({{"background", true}}, "background");
  check({{"metadata", "x"}}, "metadata");
  check({{"max_output_tokens", 1e300}}, "max_output_tokens");
  check({{"temperature", "hot"}}, "temperature");
  check({{"top_p", -1}}, "top_p");
  check({{"stream", "yes"}}, "stream");
  check({{"reasoning", "high"}}, "reasoning");
  check({{"reasoning", {{"effort", 1}}}}, "reasoning.effort");
  check({{"tools", {{{"type", "web_search"}}}}}, "tools[0].type");
  check({{"tools", {{{"type", "function"}}}}}, "tools[0].name");
  check({{"tools", {kTool}}, {"tool_choice", "all"}}, "tool_choice");
  check({{"tools", {kTool}}, {"tool_choice", {{"type", "function"}, {"name", "f"}}}}, "tool_choice");
  check({{"tool_choice", "required"}}, "tools");
  check({{"parallel_tool_calls", 1}}, "parallel_tool_calls");
  check({{"text", {{"format", {{"type", "xml"}}}}}}, "text.format.type");
  check({{"text", {{"format", {{"type", "json_schema"}}}}}}, "text.format.schema");
  EXPECT_EQ(ask({{"model", "other"}}).status, 404);
  EXPECT_EQ(get("/v1/responses").status, 405);
}

// A random model: one of the seeds has it stop thinking in time.
TEST(ResponsesOfThinkingModel, ShowWhatItThinksAsAnItem) {
  const TempFolder folder;
  thinking_model("<think>").write(folder);
  const RunningServer server(options_of(folder.path()));
  bool found = false;
  for (int seed = 0; seed < 40 && !found; ++seed) {
    json request = {
        {"input", "hi"}, {"max_output_tokens", 24}, {"temperature", 1}, {"seed", seed}, {"logit_bias", {{"2", 3}}}};
    const auto body = server.post("/v1/responses", request).body();
    found = body["output"].size() == 2;
    if (!found) continue;
    const auto reasoning = body["output"][0];
    EXPECT_EQ(reasoning["type"], "reasoning");
    EXPECT_EQ(reasoning["summary"], json::array());
    EXPECT_EQ(reasoning["content"][0]["type"], "reasoning_text");
    EXPECT_FALSE(reasoning["content"][0]["text"].get<std::string>().empty());
    EXPECT_EQ(body["output"][1]["type"], "message");
    const int thought = body["usage"]["output_tokens_details"]["reasoning_tokens"].get<int>();
    EXPECT_GT(thought, 0);
    EXPECT_LT(thought, body["usage"]["output_tokens"].get<int>());
    request["stream"] = true;
    EXPECT_EQ(without_ids(assembled(named_events(server.post("/v1/responses", request)))), without_ids(body));
    // It may come back in the conversation.
    request = {{"input", {reasoning, body["output"][1], {{"role", "user"}, {"content", "and?"}}}}};
    EXPECT_EQ(server.post("/v1/responses", request).status, 200);
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace mlx_lm::serve
