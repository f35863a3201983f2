#include "mlx_lm/serve/tool_choice.h"

#include <fmt/format.h>

namespace mlx_lm::serve {
namespace {

using json = Json;

constexpr int kMaxCalls = 16;  // in one answer: a small model may find no end

// A schema that stands below `place` of another document: its references still find what they meant.
void move_references(json& schema, const std::string& place) {
  if (schema.is_structured()) {
    for (auto& item : schema) move_references(item, place);
  }
  if (!schema.is_object()) return;
  const auto reference = schema.find("$ref");
  if (reference == schema.end() || !reference->is_string()) return;
  const auto& target = reference->get_ref<const std::string&>();
  if (target.starts_with('#')) *reference = "#" + place + target.substr(1);
}

json call_schema(const ToolChoice& choice) {
  json definitions = json::object(), kinds = json::array();
  for (const auto& tool : choice.tools) {
    const auto& function = tool.at("function");
    json parameters = {{"type", "object"}};
    if (const auto found = function.find("parameters"); found != function.end() && found->is_object()) {
      parameters = *found;
      // What a schema without a type allows includes texts and numbers.
      if (!parameters.contains("type")) parameters["type"] = "object";
    }
    const auto name = fmt::format("tool_{}", definitions.size());
    move_references(parameters, "/$defs/" + name);
    definitions[name] = std::move(parameters);
    kinds.push_back(
        {{"type", "object"},
         {"properties", {{"name", {{"const", function.at("name")}}}, {"arguments", {{"$ref", "#/$defs/" + name}}}}},
         {"required", {"name", "arguments"}},
         {"additionalProperties", false}});
  }
  return {{"$defs", std::move(definitions)},
          {"type", "array"},
          {"minItems", 1},
          {"maxItems", choice.parallel ? kMaxCalls : 1},
          {"items", {{"anyOf", std::move(kinds)}}}};
}

}  // namespace

ToolChoice read_tool_choice(const Fields& f, const json& tools) {
  using Mode = ToolChoice::Mode;
  ToolChoice choice{.mode = tools.is_null() ? Mode::none : Mode::automatic,
                    .tools = tools,
                    .parallel = f.boolean("parallel_tool_calls").value_or(true)};
  const auto* value = f.find("tool_choice");
  if (!value) return choice;
  std::string name;
  if (value->is_string()) {
    const auto mode = *f.choice("tool_choice", {"none", "auto", "required"});
    choice.mode = mode == "none" ? Mode::none : mode == "auto" ? choice.mode : Mode::required;
  } else if (value->is_object()) {
    const Fields named(*value, f.path("tool_choice"));
    if (named.need_text("type") != "function") named.wrong("type", "\"function\"");
    // {"type", "function": {"name"}}, or {"type", "name"} of the responses API.
    name = named.has("name") ? named.need_text("name")
                             : Fields(named.need("function", "an object"), named.path("function")).need_text("name");
    choice.mode = Mode::required;
  } else {
    f.wrong("tool_choice", "none, auto, required, or an object that names a function");
  }
  if (choice.mode != Mode::required) return choice;
  if (tools.is_null()) f.wrong("tools", "at least one tool, for tool_choice asks for a call");
  if (!name.empty() && !require_tool(choice, name)) f.wrong("tool_choice", "a function of tools");
  return choice;
}

bool require_tool(ToolChoice& choice, const std::string& name) {
  auto tools = json::array();
  for (const auto& tool : choice.tools) {
    if (tool.at("function").at("name") == name) tools.push_back(tool);
  }
  if (tools.empty()) return false;
  choice = {ToolChoice::Mode::required, std::move(tools), false};
  return true;
}

GrammarOptions call_grammar(const ToolChoice& choice) {
  const auto schema = call_schema(choice).dump();
  if (choice.mode == ToolChoice::Mode::required) return {.json_schema = schema, .compact = true};
  return {.lark = "start: text | calls\ntext: /([^\\[](.|\\n)*)?/\ncalls: %json " + schema + "\n"};
}

std::string call_instructions(const ToolChoice& choice) {
  const bool must = choice.mode == ToolChoice::Mode::required;
  std::string text = must ? "Answer by calling functions." : "You can call functions to help the user.";
  text += " These are the functions, with JSON schemas of their arguments:\n";
  for (const auto& tool : choice.tools) text += tool.at("function").dump() + "\n";
  text += must ? "Write the calls as a JSON list and nothing else, like this:\n"
               : "To call functions, write a JSON list and nothing else, like this:\n";
  return text + R"([{"name": "the function's name", "arguments": {"an argument": "its value"}}])";
}

}  // namespace mlx_lm::serve
