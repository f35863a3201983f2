#include "mlx_lm/cli/flags.h"

#include <iostream>

#include "mlx_lm/base/error.h"
#include "mlx_lm/base/thread_pool.h"
#include "mlx_lm/cli/progress.h"
#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::cli {

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

void print_json(const nlohmann::json& result, std::string_view area) {
  std::cout << result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
  if (!std::cout) fail<Error>("[{}] the result could not be written to standard output", area);
}

}  // namespace mlx_lm::cli
