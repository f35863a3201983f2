// mlx_lm cache_prompt: reads a prompt once, for mlx_lm generate --prompt-cache-file. Flags, lines and files are
// mlx_lm.cache_prompt's.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <iterator>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/commands.h"
#include "mlx_lm/cli/flags.h"
#include "mlx_lm/cli/interrupt.h"
#include "mlx_lm/generate/generate_step.h"
#include "mlx_lm/load/prompt_cache.h"
#include "mlx_lm/ops/backend.h"

namespace mlx_lm::cli {
namespace {

using nlohmann::json;

struct Flags {
  ModelFlags model;
  CacheFlags cache;
  std::optional<std::string> eos_token;
  std::string prompt_cache_file;
  std::string prompt;
};

void add_flags(CLI::App& app, Flags& f) {
  add_model_flags(app, f.model);
  app.add_option("--eos-token", f.eos_token, "One more token that ends an answer to this prompt");
  add_cache_flags(app, f.cache);
  app.add_option("--prompt-cache-file", f.prompt_cache_file, "The file to write (.safetensors)")->required();
  app.add_option("--prompt", f.prompt, "The text to read; '-' reads standard input")->required();
}

std::vector<int> encode(std::string prompt, const text::TokenizerWrapper& tokenizer) {
  const bool chat = tokenizer.has_chat_template();
  if (chat) {
    // The message stays open: what generate's prompt says goes on in it.
    const auto messages = json::array({{{"role", "user"}, {"content", prompt}}});
    prompt = tokenizer.apply_chat_template(
        messages, {.add_generation_prompt = false, .continue_final_message = true, .extra = json::object()});
  }
  return tokenizer.encode(prompt, /* add_special_tokens */ !chat);
}

// One line, written over itself.
class Progress {
 public:
  void operator()(int processed, int) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    auto line = fmt::format("Processed {:6} tokens ({:6.2f} tok/s)", processed, processed / std::max(seconds, 1e-9));
    longest_ = std::max(longest_, line.size());
    line.resize(longest_, ' ');
    std::cout << '\r' << line << std::flush;
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  size_t longest_ = 0;
};

int run(const Flags& f) {
  StepOptions options{.max_tokens = 0};
  f.cache.set(options);
  options.validate();
  if (f.prompt_cache_file.empty()) fail<RequestError>("[cache_prompt] prompt-cache-file: expected a name, found none");
  set_up(f.model);
  auto prompt = f.prompt == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : f.prompt;
  if (prompt.empty()) fail<RequestError>("[cache_prompt] prompt: expected a text, found nothing");

  // Never destroyed, see generate.cpp.
  static auto& loaded = *new Loaded(load_model(f.model));
  if (f.eos_token) loaded.tokenizer.add_eos_token(*f.eos_token);  // so that one which does not exist is refused here
  auto caches = loaded.model->make_cache(f.cache.max_kv_size);
  options.prompt_cache = &caches;
  options.prompt_progress_callback = Progress();
  options.stop = stop_on_interrupt();
  const auto stop = options.stop;
  for ([[maybe_unused]] auto& step :
       generate_step(encode(std::move(prompt), loaded.tokenizer), *loaded.model, std::move(options))) {
  }
  std::cout << std::endl;
  if (stop.stop_requested()) return kInterrupted;
  std::cout << fmt::format("Peak memory: {:.3f} GB", double(ops::peak_memory()) / 1e9) << std::endl;
  std::cout << "Saving..." << std::endl;
  json tokenizer_config = {{"trust_remote_code", false}};
  if (f.eos_token) tokenizer_config["eos_token"] = *f.eos_token;
  save_prompt_cache(f.prompt_cache_file, caches,
                    {{"model", name_of(f.model)}, {"tokenizer_config", tokenizer_config.dump()}});
  if (!std::cout) fail<Error>("[cache_prompt] the lines could not be written to standard output");
  return 0;
}

}  // namespace

Command add_cache_prompt(CLI::App& program) {
  auto flags = std::make_shared<Flags>();
  auto* app = add_command(program, "cache_prompt", "Read a prompt once and save what the model made of it");
  add_flags(*app, *flags);
  return {app, [flags] { return run(*flags); }};
}

}  // namespace mlx_lm::cli
