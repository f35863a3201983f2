// A model that answers requests, with what is made once for all of them.
#pragma once

#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <unordered_set>

#include "mlx_lm/generate/drafter.h"
#include "mlx_lm/hub/grammar.h"
#include "mlx_lm/load/load.h"

namespace mlx_lm::serve {

// Who guesses tokens of its texts.
struct Drafts {
  std::shared_ptr<const Loaded> model;  // null: none
  bool prompt_lookup = false;
  int num_tokens = 8;
};

// Immutable. Threads: the tokenizer and grammars from any, the model from the engine's only.
struct ServedModel {
  ServedModel(std::string id, Loaded loaded);

  std::string id;  // what clients call it
  Loaded loaded;
  GrammarTokens grammar_tokens;
  std::unordered_set<std::string> control_tokens;  // what a template, and nobody else, may write as one token
  bool cuttable;                                   // its caches can forget any of their last tokens
  int context_size;                                // tokens of a prompt and its answer; 0: no limit is known
  std::filesystem::path path;                      // of its folder or file
  Drafts drafts = {};
  std::time_t created = 0;  // when its files were written
  // Of its configuration and files: equal for what gives the same answers.
  std::string fingerprint;

  const models::LanguageModel& model() const { return *loaded.model; }
  const text::TokenizerWrapper& tokenizer() const { return loaded.tokenizer; }
};

}  // namespace mlx_lm::serve
