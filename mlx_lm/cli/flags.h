// Flags that several commands have.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "mlx_lm/hub/grammar.h"
#include "mlx_lm/load/load.h"
#include "mlx_lm/sample/logits_processors.h"
#include "mlx_lm/sample/sampler.h"

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

// How keys and values are kept.
struct CacheFlags {
  int max_kv_size = 0;
  int kv_bits = 0;
  int kv_group_size = 64;
  int quantized_kv_start = 5000;

  // Into StepOptions or BenchmarkOptions.
  template <class Options>
  void set(Options& o) const {
    o.max_kv_size = max_kv_size;
    o.kv_bits = kv_bits;
    o.kv_group_size = kv_group_size;
    o.quantized_kv_start = quantized_kv_start;
  }
};
void add_cache_flags(CLI::App& app, CacheFlags& flags);

// Sets up the processor as the flags say. To be called before anything is computed. Errors: RequestError for a number
// of threads out of range.
void set_up(const ModelFlags& flags);

// The model as it was named, or the default's path. Errors: Error when none was named and the default is not there.
std::string name_of(const ModelFlags& flags);

// The model, with the progress of a download on standard error.
Loaded load_model(const ModelFlags& flags);

// How tokens are chosen.
struct SamplingFlags {
  sample::SamplerOptions sampler{.top_p = 1.f};
  sample::PenaltyOptions penalties;
  std::string logit_bias;  // JSON; empty: none
};
void add_sampling_flags(CLI::App& app, SamplingFlags& flags);

// Moves logit_bias into the penalties, and checks everything that needs no model. Errors: RequestError that names the
// flag.
void check(SamplingFlags& flags);

// What the answer has to be. A value that starts with @ is the name of a file with it.
struct StructureFlags {
  std::string json_schema, regex, grammar;
  std::vector<std::string> choice;
  bool json_object = false;
};
void add_structure_flags(CLI::App& app, StructureFlags& flags);
// None: the answer may be anything. Errors: RequestError for several of them, or a file that cannot be read.
std::optional<GrammarOptions> grammar_options(const StructureFlags& flags);
// Errors: RequestError that names the place in the schema, regular expression or grammar.
std::optional<Grammar> make_grammar(const std::optional<GrammarOptions>& options, const Loaded& loaded);

// Who drafts tokens.
struct DraftFlags {
  std::string draft_model;  // empty: none
  bool prompt_lookup = false;
  int num_draft_tokens = 8;
};
void add_draft_flags(CLI::App& app, DraftFlags& flags);

// The result of --json, on standard output. area: for the error when it cannot be written.
void print_json(const nlohmann::json& result, std::string_view area);

}  // namespace mlx_lm::cli
