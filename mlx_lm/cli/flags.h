// Flags that several commands have.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include "mlx_lm/load/load.h"

namespace mlx_lm::cli {

// A subcommand whose flags may be given again: the last one counts, as argparse has it.
CLI::App* add_command(CLI::App& program, const std::string& name, const std::string& help);

// A flag with a number. CLI11 would read an empty text, such as a shell's unset variable, as 0.
template <class T>
CLI::Option* add_number(CLI::App& app, const std::string& name, T& value, const std::string& help) {
  const auto not_empty = [](const std::string& text) { return std::string(text.empty() ? "expected a number" : ""); };
  return app.add_option(name, value, help)->check(CLI::Validator(not_empty, ""));
}

// Which model, and what it runs on.
struct ModelFlags {
  std::string model;  // empty: the default model
  std::string revision = "main";
  std::string adapter_path;                    // empty: none
  std::optional<int> threads;                  // else MLX_LM_THREADS, or the processor's cores
  std::optional<std::string> cpu_activations;  // else MLX_LM_ACTIVATIONS, or int16
};
void add_model_flags(CLI::App& app, ModelFlags& flags);

// Sets up the processor as the flags say. To be called before anything is computed. Errors: RequestError for a number
// of threads out of range.
void set_up(const ModelFlags& flags);

// The model as it was named, or the default's path. Errors: Error when none was named and the default is not there.
std::string name_of(const ModelFlags& flags);

// The model, with the progress of a download on standard error.
Loaded load_model(const ModelFlags& flags);

// The result of --json, on standard output. area: for the error when it cannot be written.
void print_json(const nlohmann::json& result, std::string_view area);

}  // namespace mlx_lm::cli
