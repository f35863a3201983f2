// Who guesses the next tokens, so that the model can check several in one step.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "mlx_lm/models/architecture.h"

namespace mlx_lm {

class Drafter {
 public:
  virtual ~Drafter() = default;
  // Up to n tokens that may follow the text (prompt and answer so far). Called with a text that goes on from the one
  // before, of which drafted tokens may have been rejected.
  virtual std::vector<int> draft(std::span<const int> text, int n) = 0;
  // Time for a drafted token, as a part of the time that the model takes for a step.
  virtual double cost() const = 0;
};

// Prompt lookup: what followed the last time that the text's newest tokens stood in it. Needs no second model; good
// where the answer repeats the prompt (rewriting, code edits, retrieval). Time for a call: that of the new tokens.
class NgramDrafter final : public Drafter {
 public:
  // Looks for the longest of `longest` to `shortest` last tokens. Errors: RequestError unless 1 <= shortest <= longest.
  explicit NgramDrafter(int longest = 4, int shortest = 2);

  std::vector<int> draft(std::span<const int> text, int n) override;
  double cost() const override { return 0; }

 private:
  int longest_, shortest_;
  std::vector<int> seen_;  // the text that is in the tables
  // For each length: the hash of the tokens to the place after them, where they stood last; the newest are not in yet,
  // since they would find themselves.
  std::vector<std::unordered_map<uint64_t, int>> after_;
};

// A smaller model of the same vocabulary, which drafts its likeliest tokens.
class ModelDrafter final : public Drafter {
 public:
  // Both models must outlive it. Errors: RequestError when their vocabularies differ.
  ModelDrafter(const models::LanguageModel& draft_model, const models::LanguageModel& model,
               int prefill_step_size = 2048);

  std::vector<int> draft(std::span<const int> text, int n) override;
  double cost() const override { return cost_; }

 private:
  void begin_again();

  const models::LanguageModel& model_;
  int prefill_step_size_;
  double cost_;
  cache::KVCaches caches_;
  std::vector<int> fed_;  // tokens in the caches
};

}  // namespace mlx_lm
