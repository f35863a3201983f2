#include "mlx_lm/text/tool_schema.h"

#include "mlx_lm/text/number.h"
#include "mlx_lm/text/scan.h"
#include "mlx_lm/text/value_reader.h"

namespace mlx_lm::text {
namespace {

using nlohmann::json;

const json* member(const json* object, const std::string& key) {
  if (!object || !object->is_object()) return nullptr;
  const auto found = object->find(key);
  return found == object->end() ? nullptr : &*found;
}

std::string_view type_of(const json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "boolean";
  if (value.is_number_integer()) return "integer";
  if (value.is_number()) return "number";
  if (value.is_string()) return "string";
  return value.is_array() ? "array" : "object";
}

// Every type that a schema names, alternatives included, in lower case. budget: a request's schema may be of any depth
// and size, and is looked at for each value.
void collect_types(const json& schema, std::set<std::string>& types, int& budget) {
  std::set<std::string> found;
  const auto add = [&](const json& name) {
    if (name.is_string() && --budget > 0) found.insert(lower(name.get_ref<const std::string&>()));
  };
  if (schema.is_object() && --budget > 0) {
    if (const auto* type = member(&schema, "type")) {
      add(*type);
      if (type->is_array()) {
        for (size_t i = 0; i < type->size() && budget > 0; ++i) add(type->at(i));
      }
    }
    if (const auto* values = member(&schema, "enum"); values && values->is_array()) {
      for (size_t i = 0; i < values->size() && --budget > 0; ++i) found.emplace(type_of(values->at(i)));
    }
    for (const char* choice : {"anyOf", "oneOf", "allOf"}) {
      if (const auto* list = member(&schema, choice); list && list->is_array()) {
        for (size_t i = 0; i < list->size() && budget > 0; ++i) collect_types(list->at(i), found, budget);
      }
    }
  }
  if (found.empty()) found.insert("string");
  types.merge(found);
}

std::optional<Value> as_boolean(std::string_view text) {
  const auto word = lower(strip(text));
  for (const char* yes : {"true", "1", "yes", "on"}) {
    if (word == yes) return Value::of_bool(true);
  }
  for (const char* no : {"false", "0", "no", "off"}) {
    if (word == no) return Value::of_bool(false);
  }
  return std::nullopt;
}

// `type` is one that the schema allows; nullopt: the text is none of its values.
std::optional<Value> as_type(std::string_view text, std::string_view type) {
  if (type == "string" || type == "str" || type == "text") return Value::of_string(text);
  if (type == "integer" || type == "int") {
    if (auto number = read_int(text)) return Value::of_number(*std::move(number));
    return std::nullopt;
  }
  if (type == "number" || type == "float") {
    if (auto number = read_float(text)) return Value::of_number(number_json(*number));
    return std::nullopt;
  }
  if (type == "boolean" || type == "bool") return as_boolean(text);
  if (auto value = read_value(text, Dialect::loose_json)) return value;
  return read_value(text, Dialect::python);
}

}  // namespace

ToolSchema::ToolSchema(const json& tools, std::string_view function) {
  if (!tools.is_array()) return;
  for (const auto& tool : tools) {
    const auto* f = member(&tool, "function");
    const auto* name = member(f, "name");
    if (!name || !name->is_string() || name->get_ref<const std::string&>() != function) continue;
    properties_ = member(member(f, "parameters"), "properties");
    return;
  }
}

const json* ToolSchema::find(std::string_view argument) const { return member(properties_, std::string(argument)); }

std::string_view ToolSchema::type(std::string_view argument) const {
  const auto* type = member(find(argument), "type");
  return type && type->is_string() ? std::string_view(type->get_ref<const std::string&>()) : std::string_view();
}

Value typed_value(std::string_view text, const json* schema) {
  if (lower(text) == "null") return {};
  std::set<std::string> types;
  int budget = 1000;
  collect_types(schema ? *schema : json(), types, budget);
  if (types.contains("null") && (lower(text) == "none" || lower(text) == "nil")) return {};
  for (const char* type :
       {"integer", "int", "number", "float", "boolean", "bool", "object", "array", "string", "str", "text"}) {
    if (!types.contains(type)) continue;
    if (auto value = as_type(text, type)) return *std::move(value);
  }
  if (auto value = read_value(text, Dialect::json)) return *std::move(value);
  return Value::of_string(text);
}

ToolCall make_call(std::string_view format, std::string_view name, const Value& arguments, std::string id) {
  if (name.empty()) fail<ToolCallError>("[tool call] {}: expected the name of a function, found none", format);
  if (!arguments.is(Value::Kind::object)) {
    fail<ToolCallError>("[tool call] {}: {}: expected an object of arguments, found {}", format, excerpt(name),
                        excerpt(to_json(arguments)));
  }
  return {std::move(id), std::string(name), to_json(arguments)};
}

std::vector<ToolCall> calls_of_json(std::string_view format, const Value& value, bool bare) {
  using Kind = Value::Kind;
  const auto call = [&](const Value& v) {
    const auto* name = v.find("name");
    const auto* id = v.find("id");
    const auto* arguments = v.find("arguments");
    if (!name || !name->is(Kind::string) || (!arguments && !bare)) {
      fail<ToolCallError>("[tool call] {}: expected an object with name and arguments, found {}", format,
                          excerpt(to_json(v)));
    }
    Value object{Kind::object, {}, {}, {}};
    if (arguments) {
      auto inner = arguments->is(Kind::string) ? read_value(arguments->text, Dialect::json) : std::nullopt;
      object = inner ? *std::move(inner) : *arguments;
    }
    return make_call(format, name->text, object, id && id->is(Kind::string) ? id->text : "");
  };
  if (!value.is(Kind::array)) return {call(value)};
  if (value.items.empty()) fail<ToolCallError>("[tool call] {}: expected a call, found an empty list", format);
  std::vector<ToolCall> calls;
  for (const auto& each : value.items) calls.push_back(call(each));
  return calls;
}

}  // namespace mlx_lm::text
