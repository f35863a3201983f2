#include "mlx_lm/serve/chat_answer.h"

#include <utility>

#include "mlx_lm/serve/chat_prompt.h"

namespace mlx_lm::serve {
namespace {

using json = Json;

// The system message with more text, or one of its own.
void add_to_system(json& messages, const std::string& text) {
  if (messages[0]["role"] == "system") {
    auto& content = messages[0]["content"].get_ref<std::string&>();
    content += (content.empty() ? "" : "\n\n") + text;
  } else {
    messages.insert(messages.begin(), json::object({{"role", "system"}, {"content", text}}));
  }
}

}  // namespace

AnswerRequest chat_answer(std::shared_ptr<const ServedModel> served, GenerationRequest generation, ChatRequest chat) {
  using Mode = ToolChoice::Mode;
  const auto& model = *served;
  const auto& choice = chat.tools;
  AnswerRequest request{.model = served, .generation = std::move(generation)};
  const bool native = model.tokenizer().has_tool_calling();
  ChatPrompt prompt{.tools = choice.mode == Mode::none ? json() : choice.tools};
  if (choice.mode != Mode::none) {
    // Calls in the model's own format where it has one, and need not be made sure of; else in ours.
    request.reads_tools = native && choice.mode == Mode::automatic;
    request.reads_call_list = !request.reads_tools && !chat.format;
    request.tools = choice.tools;
    if (request.reads_call_list) {
      request.grammar = make_grammar(model, call_grammar(choice), "tools");
      add_to_system(chat.messages, call_instructions(choice));
      if (!native) prompt.tools = nullptr;
    }
  }
  if (chat.format) request.grammar = make_grammar(model, *chat.format, chat.format_field);
  if (request.grammar) {  // the answer begins at once
    request.reads_reasoning = false;
    if (!chat.variables.contains("enable_thinking")) chat.variables["enable_thinking"] = false;
  }
  prompt.messages = std::move(chat.messages);
  prompt.variables = std::move(chat.variables);
  prompt.continues_last = chat.continues_last;
  request.prompt = encode_chat(prompt, model);
  if (!model.cuttable) request.parts = {shared_tokens(prompt, request.prompt, model)};
  return request;
}

}  // namespace mlx_lm::serve
