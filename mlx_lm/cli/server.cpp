// mlx_lm server: a model behind OpenAI's API. Flags and defaults are mlx_lm.server's, but for --allowed-origins, which
// lets nobody in unless asked to.
#include "mlx_lm/serve/server.h"

#include <pthread.h>
#include <signal.h>

#include <fstream>
#include <sstream>
#include <thread>

#include <fmt/format.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/commands.h"
#include "mlx_lm/cli/flags.h"
#include "mlx_lm/load/json_file.h"

namespace mlx_lm::cli {
namespace {

struct Flags {
  ModelFlags model;
  serve::ServerOptions server;
  CacheFlags cache;
  DraftFlags draft;
  std::string allowed_origins;
  std::vector<std::string> api_key;
  std::string api_key_file;
  std::string chat_template_args;
  double memory = 0;               // GB; 0: half of what is there
  double prompt_cache_bytes = -1;  // less than 0: a quarter of the memory
  double prompt_cache_dir_gb = 16, prompt_cache_write_gb = 0;
  int idle_unload = 0, grace = 10;
  bool no_page = false;
  std::string log_format = "text";
};

void add_flags(CLI::App& app, Flags& f) {
  const auto number = [&app](const char* name, auto& value, const char* help) {
    add_number(app, name, value, help)->capture_default_str();
  };
  add_model_flags(app, f.model);
  auto& http = f.server.http;
  app.add_option("--host", http.host, "Address to listen at")->capture_default_str();
  number("--port", http.port, "Port to listen at; 0: any that is free");
  app.add_option("--api-key", f.api_key, "Key that requests must give; to be given for each")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--api-key-file", f.api_key_file, "File with a key in each line");
  app.add_option("--allowed-origins", f.allowed_origins, "Web pages that may ask, with commas between; *: all");
  app.add_option("--tls-cert", http.tls_certificate, "PEM file with the certificate, for HTTPS");
  app.add_option("--tls-key", http.tls_key, "PEM file with its key");
  number("--temp", f.server.defaults.temp, "Default temperature");
  number("--top-p", f.server.defaults.top_p, "Default of top_p");
  number("--top-k", f.server.defaults.top_k, "Default of top_k");
  number("--min-p", f.server.defaults.min_p, "Default of min_p");
  number("--max-tokens", f.server.defaults.max_tokens, "Default of max_tokens; -1: no limit");
  app.add_option("--chat-template", f.server.models.chat_template, "Chat template, instead of the model's own");
  app.add_option("--chat-template-args", f.chat_template_args, "JSON object of more variables for the chat template");
  auto& batch = f.server.engine.batch;
  number("--decode-concurrency", batch.completion_batch_size, "Texts that are generated at once");
  number("--prompt-concurrency", batch.prefill_batch_size, "Prompts that are computed at once");
  number("--prefill-step-size", batch.prefill_step_size, "Prompt tokens computed between two steps of the other texts");
  number("--queue", f.server.engine.queue, "Texts that may wait; further requests are refused with status 429");
  number("--memory", f.memory,
         "GB that the caches of all texts, those held from earlier included, may take; 0: half of what is there");
  app.add_option("--prompt-cache-bytes", f.prompt_cache_bytes,
                 "Of the memory, bytes for the beginnings of earlier texts; 0: hold none  [a quarter]");
  number("--prompt-cache-size", f.server.engine.prefixes.max_entries, "Earlier texts that are held; 0: no limit");
  app.add_option("--prompt-cache-dir", f.server.engine.prefixes.disk.dir, "Folder that holds them for the next start");
  number("--prompt-cache-dir-gb", f.prompt_cache_dir_gb, "GB that the folder may have");
  number("--prompt-cache-write-gb", f.prompt_cache_write_gb, "GB an hour that are written to it; 0: no limit");
  add_cache_flags(app, f.cache);
  add_draft_flags(app, f.draft);
  app.add_option("--model-dir", f.server.models.model_dir, "Folder with models that requests may name");
  app.add_option("--adapter-dir", f.server.models.adapter_dir, "Folder with adapters that requests may name");
  app.add_flag("--allow-download", f.server.models.allow_download, "Requests may name repositories to download");
  number("--idle-unload", f.idle_unload, "Seconds after which a model that nobody asks for is let go; 0: never");
  number("--grace", f.grace, "Seconds that answers under way have when the server is stopped");
  app.add_flag("--no-page", f.no_page, "Without the chat page");
  app.add_option("--log-format", f.log_format, "A line for each request, as text or JSON")
      ->check(CLI::IsMember({"text", "json", "none"}))
      ->capture_default_str();
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    if (part.ends_with('\r')) part.pop_back();
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

// Never what was said: method, path, status, time.
void log_answer(const std::string& format, const serve::HttpRequest& request, int status, double seconds,
                size_t bytes) {
  const auto line =
      format == "json"
          ? nlohmann::ordered_json{{"request", request.id}, {"method", request.method}, {"path", request.path},
                                   {"status", status},      {"seconds", seconds},       {"bytes", bytes}}
                .dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)
          : fmt::format("{} {} {} {} {:.3f}s {}B", request.id, request.method,
                        nlohmann::json(request.path).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace),
                        status, seconds, bytes);
  fmt::print(stderr, "{}\n", line);
}

size_t half_of_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("MemAvailable:")) return std::stoull(line.substr(13)) * 1024 / 2;
  }
  return size_t(4) << 30;
}

serve::ServerOptions options_of(Flags& f) {
  auto& o = f.server;
  o.http.allowed_origins = split(f.allowed_origins, ',');
  o.http.api_keys = f.api_key;
  if (!f.api_key_file.empty()) {
    std::ifstream file(f.api_key_file);
    if (!file) fail<RequestError>("[server] api-key-file: expected a file that can be read, found {}", f.api_key_file);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto keys = split(text, '\n');
    if (keys.empty())
      fail<RequestError>("[server] api-key-file: expected a key in each line, found none in {}", f.api_key_file);
    o.http.api_keys.insert(o.http.api_keys.end(), keys.begin(), keys.end());
  }
  if (f.log_format != "none") {
    o.http.on_answer = [format = f.log_format](const serve::HttpRequest& request, int status, double seconds,
                                               size_t bytes) { log_answer(format, request, status, seconds, bytes); };
  }
  if (!f.chat_template_args.empty()) {
    o.defaults.chat_template_args = parse_json(f.chat_template_args, "--chat-template-args");
    if (!o.defaults.chat_template_args.is_object()) {
      fail<RequestError>("[server] chat-template-args: expected a JSON object");
    }
  }
  f.cache.set(o.engine.batch);
  if (!(f.memory >= 0)) fail<RequestError>("[server] memory: expected 0 or more, found {}", f.memory);
  o.engine.memory = f.memory > 0 ? size_t(f.memory * 1e9) : half_of_memory();
  auto& held = o.engine.prefixes;
  for (auto [name, value] : {std::pair("prompt-cache-dir-gb", f.prompt_cache_dir_gb),
                             std::pair("prompt-cache-write-gb", f.prompt_cache_write_gb)}) {
    if (!(value >= 0 && value < 1e9)) fail<RequestError>("[server] {}: expected 0 or more, found {}", name, value);
  }
  held.max_bytes = f.prompt_cache_bytes < 0 ? o.engine.memory / 4 : size_t(std::min(f.prompt_cache_bytes, 1e15));
  if (held.max_bytes >= o.engine.memory) {
    fail<RequestError>("[server] prompt-cache-bytes: expected less than the memory for all texts, {}, found {}",
                       o.engine.memory, held.max_bytes);
  }
  o.engine.memory -= held.max_bytes;
  held.disk.max_bytes = uint64_t(f.prompt_cache_dir_gb * 1e9);
  held.disk.max_write_bytes_per_hour = uint64_t(f.prompt_cache_write_gb * 1e9);
  o.models.model = name_of(f.model);
  o.models.revision = f.model.revision;
  o.models.adapter_path = f.model.adapter_path;
  o.models.draft_model = f.draft.draft_model;
  o.models.prompt_lookup = f.draft.prompt_lookup;
  o.models.num_draft_tokens = f.draft.num_draft_tokens;
  o.models.idle_unload = std::chrono::seconds(f.idle_unload);
  o.page = !f.no_page;
  o.http.validate();
  o.engine.validate();
  o.defaults.validate();
  return o;
}

int run(Flags& f) {
  auto options = options_of(f);
  set_up(f.model);
  // Every thread that is started from here on leaves these to the one that waits for them.
  sigset_t signals;
  ::sigemptyset(&signals);
  for (int signal : {SIGINT, SIGTERM, SIGUSR1}) ::sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  serve::Server server(std::move(options));
  std::thread waiter([&] {
    for (auto grace = std::chrono::seconds(f.grace);; grace = std::chrono::seconds(0)) {
      int signal = 0;
      ::sigwait(&signals, &signal);
      if (signal == SIGUSR1) return;
      server.stop(grace);  // a second signal cuts what is under way
    }
  });
  fmt::print(stderr, "mlx_lm server: {} at {}://{}:{}\n", server.model_id(),
             f.server.http.tls_certificate.empty() ? "http" : "https", f.server.http.host, server.port());
  server.run();
  ::pthread_kill(waiter.native_handle(), SIGUSR1);
  waiter.join();
  return 0;
}

}  // namespace

Command add_server(CLI::App& program) {
  auto* app = add_command(program, "server", "Answer requests by OpenAI's API, with a chat page");
  auto flags = std::make_shared<Flags>();
  add_flags(*app, *flags);
  return {app, [flags] { return run(*flags); }};
}

}  // namespace mlx_lm::cli
