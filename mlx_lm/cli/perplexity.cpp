// mlx_lm perplexity: how well a model predicts a text. Flags, defaults and lines are mlx_lm.perplexity's, but the data
// is a file of this machine.
#include "mlx_lm/generate/perplexity.h"

#include <chrono>
#include <iostream>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/commands.h"
#include "mlx_lm/cli/flags.h"
#include "mlx_lm/ops/backend.h"

namespace mlx_lm::cli {
namespace {

using nlohmann::json;

struct Flags {
  ModelFlags model;
  PerplexityOptions options;
  std::string data_path;
  bool json = false;
};

void add_flags(CLI::App& app, Flags& f) {
  add_model_flags(app, f.model);
  const auto number = [&app](const char* name, auto& value, const char* help) {
    add_number(app, name, value, help)->capture_default_str();
  };
  app.add_option("--data-path", f.data_path, "The data: a .txt or a .jsonl file")->required();
  number("--batch-size", f.options.batch_size, "Sequences computed together");
  number("--sequence-length", f.options.sequence_length, "Tokens of a sequence");
  number("--num-samples", f.options.num_samples, "Sequences at most; -1: all that the data gives");
  number("--seed", f.options.seed, "Seed of the order in which the records of a .jsonl file are taken");
  app.add_flag("--json", f.json, "Print one JSON object in place of the lines");
  app.footer(
      "Perplexity is how many tokens the model wavers between, on average: the lower, the better it predicts the "
      "text.\n"
      "Numbers compare only for the same data, tokenizer and sequence length.\n\n"
      "A .txt file is one text. A .jsonl file has a record on each line, {\"text\": \"...\"} or {\"messages\": [...]}, "
      "the\n"
      "latter written out by the model's chat template. The tokens of all of it are cut into sequences of one length,\n"
      "each of which is predicted from its own first token on; what is left at the end is dropped.");
}

int run(const Flags& f) {
  f.options.validate();
  check_data_path(f.data_path);
  set_up(f.model);
  const auto say = [&](const std::string& text) {
    if (!f.json) std::cout << text << std::flush;
    if (!std::cout) fail<Error>("[perplexity] the result could not be written to standard output");
  };
  const auto model_name = name_of(f.model);

  say(fmt::format("Loading model from {}...\n", model_name));
  const auto loaded = load_model(f.model);
  const auto& model = *loaded.model;
  say(fmt::format("Model loaded: {:.1f}M parameters\n", model.totals().parameters() / 1e6));
  say(fmt::format("\nLoading dataset...\n  Sequence length: {}\n", f.options.sequence_length));
  const auto data = load_data(f.data_path, loaded.tokenizer, f.options);
  const size_t samples = data.size() / f.options.sequence_length;
  say(fmt::format("  Loaded {} samples\n", samples));

  say(fmt::format("\nEvaluating perplexity with batch size {}...\n", f.options.batch_size));
  const auto start = std::chrono::steady_clock::now();
  const auto found = eval_ppl(model, data, f.options, [&](int done, int total) {
    say(fmt::format("  Processed {}/{} batches...\r", done, total));
  });
  const double time = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double peak_memory = double(ops::peak_memory()) / 1e9, speed = double(found.tokens) / time;
  const std::string rule(60, '=');
  say(fmt::format("\n\n{}\nEVALUATION RESULTS\n{}\n", rule, rule));
  say(fmt::format("Model: {}\nPerplexity: {:.3f} ± {:.3f}\n", model_name, found.perplexity, found.standard_error));
  say(fmt::format("Evaluation time: {:.2f} seconds\nPeak memory: {:.2f} GB\nTokens per second: {:.0f}\n", time,
                  peak_memory, speed));
  say(fmt::format("\nDataset statistics:\n  Total samples: {}\n  Total tokens: {}\n", samples, data.size()));

  if (f.json) {
    const json all = {{"model", model_name},
                      {"data_path", f.data_path},
                      {"parameters", model.totals().parameters()},
                      {"batch_size", f.options.batch_size},
                      {"sequence_length", f.options.sequence_length},
                      {"samples", samples},
                      {"tokens", data.size()},
                      {"perplexity", found.perplexity},
                      {"standard_error", found.standard_error},
                      {"evaluation_time", time},
                      {"peak_memory", peak_memory},
                      {"tokens_per_second", speed}};
    print_json(all, "perplexity");
  }
  return 0;
}

}  // namespace

Command add_perplexity(CLI::App& program) {
  auto flags = std::make_shared<Flags>();
  auto* app = add_command(program, "perplexity", "Measure how well a model predicts a text");
  add_flags(*app, *flags);
  return {app, [flags] { return run(*flags); }};
}

}  // namespace mlx_lm::cli
