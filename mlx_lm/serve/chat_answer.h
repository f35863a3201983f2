// What the chat APIs have in common: a conversation, perhaps with tools or a format, as a request for an answer.
#pragma once

#include <memory>
#include <optional>

#include "mlx_lm/serve/answer.h"
#include "mlx_lm/serve/fields.h"
#include "mlx_lm/serve/tool_choice.h"

namespace mlx_lm::serve {

struct ChatRequest {
  Json messages;  // as read_messages() gives them
  ToolChoice tools = {};
  std::optional<GrammarOptions> format = {};  // what the answer has to be; not together with tools that are required
  std::string format_field = "response_format";
  Json variables = Json::object();  // for the template
  bool continues_last = false;      // as in ChatPrompt
};

// Errors: ApiError for what the template or the grammar refuses.
AnswerRequest chat_answer(std::shared_ptr<const ServedModel> model, GenerationRequest generation, ChatRequest chat);

}  // namespace mlx_lm::serve
