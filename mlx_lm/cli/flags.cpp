#include "mlx_lm/cli/flags.h"

#include <charconv>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>

#include "mlx_lm/base/error.h"
#include "mlx_lm/base/thread_pool.h"
#include "mlx_lm/cli/progress.h"
#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/load/json_file.h"

namespace mlx_lm::cli {
namespace {

template <class T>
std::optional<T> whole(const std::string& text) {
  T value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  return error == std::errc() && end == last ? std::optional(value) : std::nullopt;
}

// {"token id": bias}, as the servers' field of that name has it.
std::map<int, float> parse_logit_bias(const std::string& text) {
  const auto refuse = [](const std::string& found) {
    fail<RequestError>("[sample] logit-bias: expected a JSON object from token ids to numbers, found {}", found);
  };
  const auto object = parse_json(text, "--logit-bias");
  if (!object.is_object()) refuse("'" + text.substr(0, 60) + "'");
  std::map<int, float> biases;
  for (const auto& [key, value] : object.items()) {
    const auto id = whole<int>(key);
    if (!id) refuse("the id '" + key.substr(0, 60) + "'");
    if (!value.is_number()) refuse("a " + std::string(value.type_name()) + " for " + key);
    biases[*id] = value.get<float>();
  }
  return biases;
}

// The flag's value, or the content of the file that it names.
std::string value_or_file(const std::string& value, const char* flag) {
  if (!value.starts_with('@')) return value;
  std::ifstream file(value.substr(1), std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) fail<RequestError>("[generate] {}: expected a file that can be read, found {}", flag, value.substr(1));
  return text;
}

}  // namespace

CLI::App* add_command(CLI::App& program, const std::string& name, const std::string& help) {
  auto* app = program.add_subcommand(name, help);
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  return app;
}

void add_model_flags(CLI::App& app, ModelFlags& f) {
  app.add_option("--model", f.model,
                 "Model folder, .gguf file or Hugging Face repository (default: SmolLM2-135M-Instruct)");
  app.add_option("--revision", f.revision, "Branch, tag or commit of a Hugging Face repository")->capture_default_str();
  app.add_option("--adapter-path", f.adapter_path, "Folder of a LoRA, DoRA or full fine-tuning, mlx-lm's or PEFT's");
  add_number(app, "--threads", f.threads, "Threads that compute, 1 to 256 (default: one per core)");
  app.add_option("--cpu-activations", f.cpu_activations,
                 "What a CPU rounds activations to before quantized weights: int16 (the default), int8 (faster, less "
                 "exact) or float (no rounding, slower)")
      ->check(CLI::IsMember({"int8", "int16", "float"}));
}

void add_cache_flags(CLI::App& app, CacheFlags& f) {
  const auto number = [&app](const char* name, auto& value, const char* help) {
    add_number(app, name, value, help)->capture_default_str();
  };
  number("--max-kv-size", f.max_kv_size, "Tokens that the key-value cache may keep; 0: all");
  number("--kv-bits", f.kv_bits, "Bits of a quantized key-value cache: 2, 3, 4, 5, 6 or 8; 0: not quantized");
  number("--kv-group-size", f.kv_group_size, "Numbers of it that share a scale: 32, 64 or 128");
  number("--quantized-kv-start", f.quantized_kv_start, "Tokens of a text from which on it is quantized");
}

void set_up(const ModelFlags& f) {
  if (f.threads) ThreadPool::set_global_size(*f.threads);
  if (f.cpu_activations) {
    kernels::set_activations(*f.cpu_activations == "int8"    ? kernels::Activations::int8
                             : *f.cpu_activations == "int16" ? kernels::Activations::int16
                                                             : kernels::Activations::float32);
  }
}

std::string name_of(const ModelFlags& f) { return f.model.empty() ? default_model_path().string() : f.model; }

Loaded load_model(const ModelFlags& f) {
  DownloadProgress download;
  return load(name_of(f),
              {.path = {.revision = f.revision, .progress = download.callback()}, .adapter_path = f.adapter_path});
}

void add_sampling_flags(CLI::App& app, SamplingFlags& f) {
  const auto number = [&app](const char* name, auto& value, const char* help) {
    add_number(app, name, value, help)->capture_default_str();
  };
  number("--temp", f.sampler.temp, "Temperature; 0: always the likeliest token");
  number("--top-p", f.sampler.top_p, "Keep the likeliest tokens up to this probability");
  number("--min-p", f.sampler.min_p, "Drop tokens below this share of the likeliest one's probability");
  number("--top-k", f.sampler.top_k, "Keep this many of the likeliest tokens; 0: all");
  number("--xtc-probability", f.sampler.xtc_probability, "How often to drop all likely tokens but the last (XTC)");
  number("--xtc-threshold", f.sampler.xtc_threshold, "Probability from which XTC takes a token as likely");
  number("--min-tokens-to-keep", f.sampler.min_tokens_to_keep, "Tokens that --min-p always keeps");
  // CLI11 would wrap a negative number around, and take the largest for one that is too large.
  const auto is_seed = [](const std::string& text) {
    return std::string(whole<uint64_t>(text) ? "" : "expected a whole number from 0 to 2^64 - 1");
  };
  add_number(app, "--seed", f.sampler.seed, "Seed of the random numbers (default: another one each time)")
      ->check(CLI::Validator(is_seed, ""));
  number("--repetition-penalty", f.penalties.repetition_penalty,
         "Divides the logits of tokens that were there (negative ones are multiplied); 0: off");
  number("--repetition-context-size", f.penalties.repetition_context_size, "Last tokens that it looks at; 0: all");
  number("--presence-penalty", f.penalties.presence_penalty, "Taken from the logits of tokens that were there");
  number("--presence-context-size", f.penalties.presence_context_size, "Last tokens that it looks at; 0: all");
  number("--frequency-penalty", f.penalties.frequency_penalty, "Taken from a logit for each time its token was there");
  number("--frequency-context-size", f.penalties.frequency_context_size, "Last tokens that it looks at; 0: all");
  app.add_option("--logit-bias", f.logit_bias, "JSON object of what is added to logits, by token id");
}

void check(SamplingFlags& f) {
  if (!f.logit_bias.empty()) f.penalties.logit_bias = parse_logit_bias(f.logit_bias);
  f.sampler.validate();
  f.penalties.validate();
}

void add_structure_flags(CLI::App& app, StructureFlags& f) {
  app.add_option("--json-schema", f.json_schema, "JSON schema that the answer fulfils; @FILE reads it from a file");
  app.add_flag("--json-object", f.json_object, "The answer is a JSON object, of any kind");
  app.add_option("--regex", f.regex, "Regular expression that the whole answer matches; @FILE");
  app.add_option("--grammar", f.grammar, "Lark grammar of the answer, from its rule `start`; @FILE");
  app.add_option("--choice", f.choice, "The answer is one of these; to be given for each")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

std::optional<GrammarOptions> grammar_options(const StructureFlags& f) {
  GrammarOptions o{.json_object = f.json_object, .choice = f.choice};
  if (!f.json_schema.empty()) o.json_schema = value_or_file(f.json_schema, "json-schema");
  if (!f.regex.empty()) o.regex = value_or_file(f.regex, "regex");
  if (!f.grammar.empty()) o.lark = value_or_file(f.grammar, "grammar");
  if (!o.json_schema && !o.json_object && !o.regex && !o.lark && o.choice.empty()) return std::nullopt;
  o.validate();
  return o;
}

std::optional<Grammar> make_grammar(const std::optional<GrammarOptions>& options, const Loaded& loaded) {
  if (!options) return std::nullopt;
  const auto& ids = loaded.tokenizer.eos_token_ids();
  const std::vector<int> end_tokens(ids.begin(), ids.end());
  return Grammar(GrammarTokens(loaded.tokenizer.tokenizer(), loaded.model->vocab_size(), end_tokens), *options);
}

void add_draft_flags(CLI::App& app, DraftFlags& f) {
  app.add_option("--draft-model", f.draft_model, "Small model of the same vocabulary that guesses tokens")
      ->excludes(app.add_flag("--prompt-lookup", f.prompt_lookup,
                              "Guess tokens by what followed where the text's last ones stood before"));
  add_number(app, "--num-draft-tokens", f.num_draft_tokens,
             "Tokens guessed at a time at most; as many as seem worth it")
      ->capture_default_str();
}

void print_json(const nlohmann::json& result, std::string_view area) {
  std::cout << result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
  if (!std::cout) fail<Error>("[{}] the result could not be written to standard output", area);
}

}  // namespace mlx_lm::cli
