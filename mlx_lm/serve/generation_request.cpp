#include "mlx_lm/serve/generation_request.h"

#include <charconv>

#include <fmt/format.h>

namespace mlx_lm::serve {
namespace {

using json = Json;

constexpr int64_t kMaxTokens = int64_t(1) << 30;
constexpr size_t kMaxBiases = 1024;

void read_logit_bias(const Fields& f, int vocab_size, std::map<int, float>& bias) {
  const auto* object = f.object("logit_bias");
  if (!object) return;
  if (object->size() > kMaxBiases) {
    throw ApiError(
        400, fmt::format("{}: expected at most {} tokens, found {}", f.path("logit_bias"), kMaxBiases, object->size()),
        f.path("logit_bias"));
  }
  const Fields values(*object, f.path("logit_bias"));
  for (const auto& item : object->items()) {
    const auto& key = item.key();
    int id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= vocab_size) {
      throw ApiError(
          400,
          fmt::format("{}: expected numbers of tokens from 0 to {}, found {}", f.path("logit_bias"), vocab_size - 1,
                      json(key.substr(0, 40)).dump(-1, ' ', true, json::error_handler_t::replace)),
          f.path("logit_bias"));
    }
    if (const auto value = values.number(key, -1e9, 1e9)) bias[id] = float(*value);
  }
}

}  // namespace

void GenerationDefaults::validate() const {
  sample::SamplerOptions{.temp = temp, .top_p = top_p, .min_p = min_p, .top_k = top_k}.validate();
  if (max_tokens < 1 && max_tokens != -1) {
    fail<RequestError>("[server] max-tokens: expected 1 or more, or -1 for no limit, found {}", max_tokens);
  }
}

GenerationRequest read_generation(const Fields& f, const GenerationDefaults& defaults, int vocab_size) {
  GenerationRequest request{
      .sampler = {.temp = defaults.temp, .top_p = defaults.top_p, .min_p = defaults.min_p, .top_k = defaults.top_k},
      .max_tokens = defaults.max_tokens};
  const auto number = [&](const char* key, float& value, double low, double high) {
    if (const auto found = f.number(key, low, high)) value = float(*found);
  };
  const auto whole = [&](const char* key, int& value, int64_t low, int64_t high) {
    if (const auto found = f.integer(key, low, high)) value = int(*found);
  };
  auto& s = request.sampler;
  number("temperature", s.temp, 0, 100);
  number("top_p", s.top_p, 0, 1);
  number("min_p", s.min_p, 0, 1);
  whole("top_k", s.top_k, -1, kMaxTokens);
  if (s.top_k < 0 || s.top_k >= vocab_size) s.top_k = 0;  // -1 and the whole vocabulary: off
  number("xtc_probability", s.xtc_probability, 0, 1);
  number("xtc_threshold", s.xtc_threshold, 0, 0.5);
  if (const auto seed = f.integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max())) {
    s.seed = uint64_t(*seed);
  }
  auto& p = request.penalties;
  number("repetition_penalty", p.repetition_penalty, 0, 100);
  whole("repetition_context_size", p.repetition_context_size, 0, kMaxTokens);
  number("presence_penalty", p.presence_penalty, -100, 100);
  whole("presence_context_size", p.presence_context_size, 0, kMaxTokens);
  number("frequency_penalty", p.frequency_penalty, -100, 100);
  whole("frequency_context_size", p.frequency_context_size, 0, kMaxTokens);
  read_logit_bias(f, vocab_size, p.logit_bias);

  // The newest name first, for requests that give several.
  for (const char* key : {"max_completion_tokens", "max_output_tokens", "max_tokens"}) {
    if (!f.has(key)) continue;
    whole(key, request.max_tokens, -1, kMaxTokens);
    if (request.max_tokens == 0) f.wrong(key, "1 or more, or -1 for no limit");
    break;
  }
  if (const auto drafts = f.integer("num_draft_tokens", 0, 64)) request.num_draft_tokens = int(*drafts);
  if (const auto draft = f.text("draft_model"); draft && *draft != "default_model") {
    f.wrong("draft_model", "\"default_model\": the server's --draft-model");
  }
  whole("n", request.n, 1, GenerationRequest::kMaxAnswers);
  request.stop = f.texts("stop", GenerationRequest::kMaxStops);
  std::erase(request.stop, "");
  request.stream = f.boolean("stream").value_or(false);
  if (const auto* options = f.object("stream_options")) {
    request.include_usage = Fields(*options, f.path("stream_options")).boolean("include_usage").value_or(false);
  }
  return request;
}

std::optional<GrammarOptions> read_format(const Fields& format, const std::string& key) {
  format.need("type", "one of text, json_object, json_schema");
  const auto type = *format.choice("type", {"text", "json_object", "json_schema"});
  if (type == "text") return std::nullopt;
  if (type == "json_object") return GrammarOptions{.json_object = true};
  const auto* schema = format.object("schema");
  if (const auto* named = format.object("json_schema")) {
    const Fields inner(*named, format.path("json_schema"));
    schema = inner.object("schema");
    if (!schema) inner.need("schema", "a JSON schema");
  }
  if (!schema) format.need(key, key == "schema" ? "a JSON schema" : "an object with a schema");
  return GrammarOptions{.json_schema = schema->dump()};
}

std::optional<GrammarOptions> read_response_format(const Fields& f) {
  GrammarOptions options;
  bool any = false;
  if (const auto* object = f.object("response_format")) {
    if (auto format = read_format(Fields(*object, f.path("response_format")), "json_schema")) {
      options = std::move(*format);
      any = true;
    }
  }
  const auto alone = [&](const char* key) {
    if (any) f.wrong(key, "only one field that says what the answer has to be");
    any = true;
  };
  if (const auto* schema = f.find("json_schema")) {
    alone("json_schema");
    if (!schema->is_object() && !schema->is_boolean()) f.wrong("json_schema", "a JSON schema");
    options.json_schema = schema->dump();
  }
  if (const auto regex = f.text("regex")) {
    alone("regex");
    options.regex = *regex;
  }
  if (const auto grammar = f.text("grammar")) {
    alone("grammar");
    options.lark = *grammar;
  }
  if (const auto choice = f.texts("choice", 1000); !choice.empty()) {
    alone("choice");
    options.choice = choice;
  }
  return any ? std::optional(options) : std::nullopt;
}

Grammar make_grammar(const ServedModel& model, const GrammarOptions& options, const std::string& field) {
  try {
    return Grammar(model.grammar_tokens, options);
  } catch (const RequestError& error) {
    throw ApiError(400, fmt::format("{}: {}", field, error.what()), field, "invalid_value");
  }
}

SequenceOptions sequence_options(const GenerationRequest& request, const ServedModel& model, int i) {
  const auto& end_tokens = model.tokenizer().eos_token_ids();
  SequenceOptions options{.max_tokens = request.max_tokens,
                          .stop_tokens = end_tokens,
                          .logits_processors = sample::make_logits_processors(request.penalties)};
  options.num_draft_tokens = request.num_draft_tokens.value_or(model.drafts.num_tokens);
  if (options.num_draft_tokens > 0) {
    if (model.drafts.model) {
      options.drafter = std::make_shared<ModelDrafter>(*model.drafts.model->model, model.model());
    } else if (model.drafts.prompt_lookup) {
      options.drafter = std::make_shared<NgramDrafter>();
    }
  }
  if (request.sampler.temp > 0) {
    auto sampler = request.sampler;
    if (sampler.seed) *sampler.seed += uint64_t(i);
    sampler.xtc_special_tokens = model.tokenizer().encode("\n");
    sampler.xtc_special_tokens.insert(sampler.xtc_special_tokens.end(), end_tokens.begin(), end_tokens.end());
    options.sampler = sample::make_sampler(sampler);
  }
  return options;
}

}  // namespace mlx_lm::serve
