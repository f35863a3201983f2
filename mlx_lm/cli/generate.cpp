// mlx_lm generate: one prompt, one answer. Flags, defaults and output are mlx_lm.generate's.
#include <unistd.h>

#include <iostream>
#include <iterator>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/commands.h"
#include "mlx_lm/cli/flags.h"
#include "mlx_lm/cli/interrupt.h"
#include "mlx_lm/cli/progress.h"
#include "mlx_lm/generate/stream_generate.h"
#include "mlx_lm/load/json_file.h"

namespace mlx_lm::cli {
namespace {

using nlohmann::json;

struct Flags {
  ModelFlags model;
  std::vector<std::string> extra_eos_token;
  std::optional<std::string> system_prompt;
  std::string prompt = "hello";
  std::optional<std::string> prefill_response;
  int max_tokens = 100;
  sample::SamplerOptions sampler{.top_p = 1.f};
  std::optional<uint64_t> seed;
  bool ignore_chat_template = false;
  std::string chat_template_config;
  std::string verbose = "True";
  CacheFlags cache;
  int prefill_step_size = 2048;
};

void add_flags(CLI::App& app, Flags& f) {
  add_model_flags(app, f.model);
  app.add_option("--extra-eos-token", f.extra_eos_token, "More tokens that end the answer (text or number)");
  app.add_option("--system-prompt", f.system_prompt, "System message for the chat template");
  app.add_option("-p,--prompt", f.prompt, "The message; '-' reads standard input; \\n and \\t are unescaped")
      ->capture_default_str();
  app.add_option("--prefill-response", f.prefill_response, "How the answer starts");
  const auto number = [&app](const char* name, auto& value, const char* help) {
    add_number(app, name, value, help)->capture_default_str();
  };
  number("-m,--max-tokens", f.max_tokens, "Tokens to generate at most; -1: no limit");
  number("--temp", f.sampler.temp, "Temperature; 0: always the likeliest token");
  number("--top-p", f.sampler.top_p, "Keep the likeliest tokens up to this probability");
  number("--min-p", f.sampler.min_p, "Drop tokens below this share of the likeliest one's probability");
  number("--top-k", f.sampler.top_k, "Keep this many of the likeliest tokens; 0: all");
  number("--xtc-probability", f.sampler.xtc_probability, "How often to drop all likely tokens but the last (XTC)");
  number("--xtc-threshold", f.sampler.xtc_threshold, "Probability from which XTC takes a token as likely");
  number("--min-tokens-to-keep", f.sampler.min_tokens_to_keep, "Tokens that --min-p always keeps");
  add_number(app, "--seed", f.seed, "Seed of the random numbers");
  app.add_flag("--ignore-chat-template", f.ignore_chat_template, "Give the prompt to the model as it is");
  app.add_option("--chat-template-config", f.chat_template_config,
                 "JSON object of more variables for the chat template");
  app.add_option("--verbose", f.verbose, "False: print only the answer, at the end")->capture_default_str();
  number("--prefill-step-size", f.prefill_step_size, "Prompt tokens computed at a time");
  add_cache_flags(app, f.cache);
}

bool is_false(std::string text) {
  for (char& c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
  return text == "false" || text == "f";
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

std::string read_prompt(const std::string& flag) {
  if (flag == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  return replace_all(replace_all(flag, "\\n", "\n"), "\\t", "\t");
}

json template_variables(const std::string& text) {
  if (text.empty()) return json::object();
  auto value = parse_json(text, "--chat-template-config");
  if (!value.is_object()) {
    fail<RequestError>("[generate] chat-template-config: expected a JSON object, found '{}'", text.substr(0, 60));
  }
  return value;
}

std::vector<int> encode(const Flags& f, std::string prompt, json variables, const text::TokenizerWrapper& tokenizer) {
  const bool chat = !f.ignore_chat_template && tokenizer.has_chat_template();
  if (chat) {
    auto messages = json::array();
    if (f.system_prompt) messages.push_back({{"role", "system"}, {"content", *f.system_prompt}});
    messages.push_back({{"role", "user"}, {"content", prompt}});
    if (f.prefill_response) messages.push_back({{"role", "assistant"}, {"content", *f.prefill_response}});
    prompt = tokenizer.apply_chat_template(messages, {.add_generation_prompt = !f.prefill_response,
                                                      .continue_final_message = f.prefill_response.has_value(),
                                                      .extra = std::move(variables)});
  }
  return tokenizer.encode(prompt, /* add_special_tokens */ !chat);
}

int run(const Flags& f) {
  StepOptions options{.max_tokens = f.max_tokens, .prefill_step_size = f.prefill_step_size};
  f.cache.set(options);
  // What can be wrong without a model is told before one is loaded.
  f.sampler.validate();
  options.validate();
  set_up(f.model);
  auto variables = template_variables(f.chat_template_config);
  auto prompt = read_prompt(f.prompt);
  if (prompt.empty()) fail<RequestError>("[generate] prompt: expected a text, found nothing");
  const bool verbose = !is_false(f.verbose);
  if (f.seed) mx::random::seed(*f.seed);

  // Never destroyed: the system takes its memory back at once, without freeing 100,000 strings first.
  static auto& loaded = *new Loaded(load_model(f.model));
  auto& tokenizer = loaded.tokenizer;
  for (const auto& token : f.extra_eos_token) tokenizer.add_eos_token(token);

  const auto tokens = encode(f, std::move(prompt), std::move(variables), tokenizer);

  PrefillProgress prefill;
  options.prompt_progress_callback = prefill.callback();
  options.stop = stop_on_interrupt();
  if (f.sampler.temp > 0) {
    auto sampler = f.sampler;
    sampler.xtc_special_tokens = tokenizer.encode("\n");
    sampler.xtc_special_tokens.insert(sampler.xtc_special_tokens.end(), tokenizer.eos_token_ids().begin(),
                                      tokenizer.eos_token_ids().end());
    options.sampler = sample::make_sampler(sampler);
  }
  const auto stop = options.stop;
  const auto answer = generate(*loaded.model, tokenizer, tokens, std::move(options), verbose ? &std::cout : nullptr);
  if (!verbose) std::cout << answer << std::endl;
  if (!std::cout) fail<Error>("[generate] the answer could not be written to standard output");
  return stop.stop_requested() ? kInterrupted : 0;
}

}  // namespace

Command add_generate(CLI::App& program) {
  auto flags = std::make_shared<Flags>();
  auto* app = add_command(program, "generate", "Answer one prompt");
  add_flags(*app, *flags);
  return {app, [flags] { return run(*flags); }};
}

}  // namespace mlx_lm::cli
