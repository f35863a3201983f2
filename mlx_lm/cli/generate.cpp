// mlx_lm generate: a prompt and its answer, or a file of prompts and theirs. Flags, defaults and output are
// mlx_lm.generate's.
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <map>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/commands.h"
#include "mlx_lm/cli/flags.h"
#include "mlx_lm/cli/interrupt.h"
#include "mlx_lm/cli/progress.h"
#include "mlx_lm/generate/batch_generate.h"
#include "mlx_lm/generate/stream_generate.h"
#include "mlx_lm/load/json_file.h"
#include "mlx_lm/load/prompt_cache.h"
#include "mlx_lm/sample/constraint.h"

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
  SamplingFlags sampling;
  bool ignore_chat_template = false;
  std::string chat_template_config;
  std::string verbose = "True";
  CacheFlags cache;
  std::string prompt_cache_file;
  int prefill_step_size = 2048;
  DraftFlags draft;
  StructureFlags structure;
  std::string prompts;  // file; empty: one prompt
  int batch_size = 32;
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
  add_sampling_flags(app, f.sampling);
  app.add_flag("--ignore-chat-template", f.ignore_chat_template, "Give the prompt to the model as it is");
  app.add_option("--chat-template-config", f.chat_template_config,
                 "JSON object of more variables for the chat template");
  app.add_option("--verbose", f.verbose, "False: print only the answer, at the end")->capture_default_str();
  number("--prefill-step-size", f.prefill_step_size, "Prompt tokens computed at a time");
  add_cache_flags(app, f.cache);
  app.add_option("--prompt-cache-file", f.prompt_cache_file,
                 "What mlx_lm cache_prompt saved: the prompt is what follows it");
  add_draft_flags(app, f.draft);
  add_structure_flags(app, f.structure);
  app.add_option("--prompts", f.prompts,
                 "File with a prompt in each line: a text, or a JSON object with `prompt` or `messages`; answers are "
                 "JSON lines in the same order ('-': standard input)");
  number("--batch-size", f.batch_size, "Prompts of --prompts that are answered at once");
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

// What the template makes of a conversation.
std::string render(const Flags& f, json messages, const json& variables, const text::TokenizerWrapper& tokenizer) {
  if (f.system_prompt)
    messages.insert(messages.begin(), json::object({{"role", "system"}, {"content", *f.system_prompt}}));
  if (f.prefill_response) messages.push_back(json::object({{"role", "assistant"}, {"content", *f.prefill_response}}));
  return tokenizer.apply_chat_template(messages, {.add_generation_prompt = !f.prefill_response,
                                                  .continue_final_message = f.prefill_response.has_value(),
                                                  .extra = variables});
}

// The conversation's tokens. messages: what the user says, or a conversation.
std::vector<int> encode(const Flags& f, json messages, const json& variables, const text::TokenizerWrapper& tokenizer) {
  if (f.ignore_chat_template || !tokenizer.has_chat_template()) {
    std::string prompt;
    for (const auto& message : messages) prompt += message.at("content").get<std::string>();
    return tokenizer.encode(prompt, /* add_special_tokens */ true);
  }
  auto prompt = render(f, messages, variables, tokenizer);
  if (!f.prompt_cache_file.empty()) {
    // What stands before the message is in the cache.
    const std::string query = "<query>";
    messages.back()["content"] = query;
    const auto at = render(f, messages, variables, tokenizer).find(query);
    if (at == std::string::npos || at > prompt.size()) {
      fail<RequestError>("[generate] prompt-cache-file: expected a chat template that shows the message as it is");
    }
    prompt.erase(0, at);
  }
  return tokenizer.encode(prompt, /* add_special_tokens */ false);
}

json one_message(std::string prompt) { return json::array({{{"role", "user"}, {"content", std::move(prompt)}}}); }

// The messages of each line. Errors: RequestError that names the line.
std::vector<json> read_prompts(const std::string& name) {
  std::ifstream file;
  if (name != "-") file.open(name, std::ios::binary);
  std::istream& in = name == "-" ? std::cin : file;
  if (!in) fail<RequestError>("[generate] prompts: expected a file that can be read, found {}", name);
  std::vector<json> prompts;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    const auto where = fmt::format("{}:{}", name, number);
    if (!line.starts_with('{')) {
      prompts.push_back(one_message(replace_all(replace_all(line, "\\n", "\n"), "\\t", "\t")));
      continue;
    }
    const auto object = parse_json(line, where);
    const auto refuse = [&](const char* expected) {
      fail<RequestError>("[generate] {}: expected {}", where, expected);
    };
    if (object.contains("messages") == object.contains("prompt")) refuse("one of `prompt` and `messages`");
    if (object.contains("prompt")) {
      if (!object["prompt"].is_string()) refuse("`prompt` to be a text");
      prompts.push_back(one_message(object["prompt"]));
      continue;
    }
    const auto& messages = object["messages"];
    if (!messages.is_array() || messages.empty()) refuse("`messages` to be a list of messages");
    for (const auto& message : messages) {
      const auto is_text = [&](const char* key) { return message.contains(key) && message[key].is_string(); };
      if (!message.is_object() || !is_text("role") || !is_text("content")) {
        refuse("messages to be objects with the texts `role` and `content`");
      }
    }
    prompts.push_back(messages);
  }
  if (prompts.empty()) fail<RequestError>("[generate] prompts: expected a prompt in each line, found none in {}", name);
  return prompts;
}

const char* name_of(FinishReason reason) {
  return reason == FinishReason::stop ? "stop" : reason == FinishReason::length ? "length" : "cancelled";
}

sample::Sampler make_sampler(const Flags& f, const text::TokenizerWrapper& tokenizer) {
  auto options = f.sampling.sampler;
  if (options.temp == 0) return {};
  options.xtc_special_tokens = tokenizer.encode("\n");
  options.xtc_special_tokens.insert(options.xtc_special_tokens.end(), tokenizer.eos_token_ids().begin(),
                                    tokenizer.eos_token_ids().end());
  return sample::make_sampler(options);
}

// Null: nobody. The models must outlive it.
using MakeDrafter = std::function<std::unique_ptr<Drafter>()>;

MakeDrafter drafters(const Flags& f, const models::LanguageModel& model) {
  if (!f.draft.draft_model.empty()) {
    auto flags = f.model;
    flags.model = f.draft.draft_model;
    flags.adapter_path.clear();
    static auto& draft = *new Loaded(load_model(flags));
    return [&] { return std::make_unique<ModelDrafter>(*draft.model, model, f.prefill_step_size); };
  }
  if (f.draft.prompt_lookup) return [] { return std::make_unique<NgramDrafter>(); };
  return [] { return nullptr; };
}

// Answers in the order of the prompts, each as soon as it and those before are there.
int run_batch(const Flags& f, const Loaded& loaded, const std::vector<json>& conversations, const json& variables,
              const std::optional<Grammar>& grammar) {
  std::vector<BatchPrompt> prompts;
  const auto make_drafter = drafters(f, *loaded.model);
  for (const auto& messages : conversations) {
    SequenceOptions options{.max_tokens = f.max_tokens,
                            .sampler = make_sampler(f, loaded.tokenizer),
                            .logits_processors = sample::make_logits_processors(f.sampling.penalties),
                            .drafter = make_drafter(),
                            .num_draft_tokens = f.draft.num_draft_tokens};
    if (grammar) options.constraint = std::make_shared<sample::Constraint>(grammar->matcher());
    prompts.push_back({encode(f, messages, variables, loaded.tokenizer), std::move(options)});
  }
  StatusLine status;
  BatchGenerateOptions options{
      .batch = {.completion_batch_size = f.batch_size, .prefill_step_size = f.prefill_step_size}};
  f.cache.set(options.batch);
  options.stop = stop_on_interrupt();
  size_t done = 0, written = 0;
  std::map<size_t, std::string> lines;
  options.on_answer = [&](const BatchAnswer& answer) {
    const json line{{"index", answer.index},
                    {"text", answer.text},
                    {"finish_reason", name_of(answer.finish_reason)},
                    {"prompt_tokens", answer.prompt_tokens},
                    {"generation_tokens", answer.tokens.size()}};
    lines[answer.index] = line.dump(-1, ' ', false, json::error_handler_t::replace);
    done += 1;
    for (auto next = lines.find(written); next != lines.end(); next = lines.find(++written)) {
      status.clear();
      std::cout << next->second << '\n' << std::flush;
      lines.erase(next);
    }
  };
  options.on_step = [&](const BatchStats& stats) {
    status.show(
        fmt::format("{} of {} answers, {:.0f} tokens per second", done, conversations.size(), stats.generation_tps));
  };
  const auto stop = options.stop;
  const auto result = batch_generate(*loaded.model, loaded.tokenizer, std::move(prompts), options);
  status.clear();
  if (!std::cout) fail<Error>("[generate] the answers could not be written to standard output");
  if (!is_false(f.verbose)) {
    const auto& s = result.stats;
    fmt::print(stderr,
               "Prompt: {} tokens, {:.3f} tokens-per-sec\nGeneration: {} tokens, {:.3f} tokens-per-sec\n"
               "Peak memory: {:.3f} GB\n",
               s.prompt_tokens, s.prompt_tps, s.generation_tokens, s.generation_tps, s.peak_memory);
  }
  return stop.stop_requested() ? kInterrupted : 0;
}

// The saved caches, and the model that they were made with as the flags' own. Null: no file was named.
std::optional<PromptCache> load_cache(Flags& f) {
  if (f.prompt_cache_file.empty()) return std::nullopt;
  auto saved = load_prompt_cache(f.prompt_cache_file);
  const auto model = saved.metadata.find("model");
  if (model == saved.metadata.end() || model->second.empty()) {
    fail<WeightError>("[prompt cache] {}: expected the name of its model, found none", f.prompt_cache_file);
  }
  if (f.model.model.empty()) f.model.model = model->second;
  if (f.model.model != model->second) {
    fail<RequestError>("[generate] model: expected {}, which made {}, found {}", model->second, f.prompt_cache_file,
                       f.model.model);
  }
  const auto* kv = dynamic_cast<const cache::KVCache*>(saved.caches[0].get());
  if (kv && kv->format().quantized() && f.cache.kv_bits != 0) {
    const auto& format = kv->format();
    const auto check = [&](const char* flag, int expected, int found) {
      if (expected != found) {
        fail<RequestError>("[generate] {}: expected {}, as {} has, found {}", flag, expected, f.prompt_cache_file,
                           found);
      }
    };
    check("kv-bits", format.bits, f.cache.kv_bits);
    check("kv-group-size", format.group_size, f.cache.kv_group_size);
  }
  return saved;
}

// cache_prompt's --eos-token.
void add_saved_token(const PromptCache& saved, const std::string& file, text::TokenizerWrapper& tokenizer) {
  const auto config = saved.metadata.find("tokenizer_config");
  if (config == saved.metadata.end()) return;
  const auto values = json::parse(config->second, nullptr, /* allow_exceptions */ false);
  if (!values.is_object()) {
    fail<WeightError>("[prompt cache] {}: tokenizer_config: expected a JSON object, found something else", file);
  }
  if (const auto token = values.find("eos_token"); token != values.end() && token->is_string()) {
    tokenizer.add_eos_token(token->get<std::string>());
  }
}

int run(Flags& f) {
  StepOptions options{.max_tokens = f.max_tokens,
                      .prefill_step_size = f.prefill_step_size,
                      .num_draft_tokens = f.draft.num_draft_tokens};
  f.cache.set(options);
  // What can be wrong without a model is told before one is loaded.
  check(f.sampling);
  options.validate();
  auto saved = load_cache(f);
  set_up(f.model);
  const auto variables = template_variables(f.chat_template_config);
  const auto structure = grammar_options(f.structure);
  const bool batch = !f.prompts.empty();
  if (batch && saved) fail<RequestError>("[generate] prompts: expected no --prompt-cache-file beside it");
  const auto conversations = batch ? read_prompts(f.prompts) : std::vector<json>{one_message(read_prompt(f.prompt))};
  if (conversations[0][0]["content"] == "") fail<RequestError>("[generate] prompt: expected a text, found nothing");
  const bool verbose = !is_false(f.verbose);

  // Never destroyed: the system takes its memory back at once, without freeing 100,000 strings first.
  static auto& loaded = *new Loaded(load_model(f.model));
  auto& tokenizer = loaded.tokenizer;
  for (const auto& token : f.extra_eos_token) tokenizer.add_eos_token(token);
  if (saved) {
    check_prompt_cache(saved->caches, *loaded.model, f.prompt_cache_file);
    add_saved_token(*saved, f.prompt_cache_file, tokenizer);
    options.prompt_cache = &saved->caches;
  }
  f.sampling.penalties.validate(loaded.model->vocab_size());
  const auto grammar = make_grammar(structure, loaded);
  if (batch) return run_batch(f, loaded, conversations, variables, grammar);

  const auto tokens = encode(f, conversations[0], variables, tokenizer);
  PrefillProgress prefill;
  options.prompt_progress_callback = prefill.callback();
  options.stop = stop_on_interrupt();
  options.logits_processors = sample::make_logits_processors(f.sampling.penalties);
  options.sampler = make_sampler(f, tokenizer);
  std::optional<sample::Constraint> constraint;
  if (grammar) options.constraint = &constraint.emplace(grammar->matcher());
  const auto drafter = drafters(f, *loaded.model)();
  options.drafter = drafter.get();
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
