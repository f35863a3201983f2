// A conversation as the model's tokens.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/serve/fields.h"
#include "mlx_lm/serve/served_model.h"

namespace mlx_lm::serve {

// The messages of an OpenAI request in the form that chat templates read: content is a text, "developer" is "system",
// the arguments of tool calls are objects. path: of the list in the body. Errors: ApiError that names the message and
// field.
Json read_messages(const Json& messages, const std::string& path);
// One of them. path: "messages[2]".
Json read_message(const Json& message, const std::string& path);
// A text, null, or a list of parts that are texts. Errors: ApiError.
std::string read_content(const Fields& message, const std::string& key = "content");

// The tools of an OpenAI request: [{"type": "function", "function": {"name", "parameters"?, ...}}]. Null when there are
// none. Errors: ApiError.
Json read_tools(const Fields& fields);
// The same of other APIs, where `read` makes one in that form of each. Null when there are none. Errors: ApiError.
Json read_tool_list(const Fields& fields, const std::function<Json(const Fields& tool)>& read);
// One in that form, of the fields name, description? and its schema?.
Json read_function(const Fields& function, const std::string& schema_key);

// More variables for the template; those that it gets anyway are refused. Errors: ApiError.
Json read_template_variables(const Fields& fields, const Json& defaults);

struct ChatPrompt {
  Json messages;
  Json tools = nullptr;
  Json variables = Json::object();
  bool continues_last = false;  // the last message, an assistant's, is the beginning of the answer
};

// What the model's template makes of it; without a template, the texts with the roles before them. What messages and
// tools say is text: that of a control token ("<|im_end|>") does not become one. Errors: ApiError for what the template
// refuses.
std::vector<int> encode_chat(const ChatPrompt& prompt, const ServedModel& model);

// How many of the prompt's tokens stand before what was said: the tools and the system message, which other
// conversations may have too. 0: none.
int shared_tokens(const ChatPrompt& prompt, const std::vector<int>& tokens, const ServedModel& model);

}  // namespace mlx_lm::serve
