// How well a model predicts a text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/text/tokenizer_wrapper.h"

namespace mlx_lm {

struct PerplexityOptions {
  int batch_size = 8;         // sequences computed together; at least 1
  int sequence_length = 512;  // tokens; at least 2
  int num_samples = 256;      // sequences at most, from the beginning of the data; -1: all
  uint32_t seed = 123;        // of the order in which records are taken

  // Errors: RequestError that names the option.
  void validate() const;
};

// Errors: RequestError unless it is a .txt or .jsonl file.
void check_data_path(const std::filesystem::path& path);

// The numbers below n in a random order, numpy's for that seed: numpy.random.seed(seed), numpy.random.permutation(n).
std::vector<size_t> permutation(size_t n, uint32_t seed);

// Tokens (N, sequence_length) of a file; what is left over at its end is dropped.
//   .txt    the whole text, with the special tokens that the tokenizer puts around one
//   .jsonl  a record on each line, taken in random order: {"messages": [...], "tools": ...}, by the chat template, or
//           {"text": "..."}, followed by the end token
// Errors: RequestError for a file that is missing, too short for one sequence, not UTF-8, or has a record that is
// neither. Source: mlx_lm/perplexity.py, load_data; mlx_lm/tuner/datasets.py.
std::vector<int> load_data(const std::filesystem::path& path, const text::TokenizerWrapper& tokenizer,
                           const PerplexityOptions& options);

struct Perplexity {
  double perplexity = 0;      // exp(mean loss)
  double standard_error = 0;  // perplexity times the standard error of the mean loss
  int64_t tokens = 0;         // predicted: all but the first of each sequence
};

// sequences: (N, sequence_length). progress: told of batches done and in all, after each. A batch runs in pieces that
// keep its logits below 128 MiB. Errors: RequestError for options out of range, or tokens that the model does not know.
// Source: mlx_lm/perplexity.py, eval_ppl.
Perplexity eval_ppl(const models::LanguageModel& model, const std::vector<int>& sequences,
                    const PerplexityOptions& options, const std::function<void(int done, int total)>& progress = {});

}  // namespace mlx_lm
