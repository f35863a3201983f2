#include "mlx_lm/cli/flags.h"

#include <charconv>
#include <iostream>
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

void print_json(const nlohmann::json& result, std::string_view area) {
  std::cout << result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
  if (!std::cout) fail<Error>("[{}] the result could not be written to standard output", area);
}

}  // namespace mlx_lm::cli
