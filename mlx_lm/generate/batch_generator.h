// Many texts at once: each joins when it likes, ends when it ends, and comes out as it would alone.
#pragma once

#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/generate/finish_reason.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/sample/constraint.h"
#include "mlx_lm/sample/logits_processors.h"
#include "mlx_lm/sample/sampler.h"

namespace mlx_lm {
namespace mx = mlx::core;

struct BatchOptions {
  int completion_batch_size = 32;  // texts that are generated at once; further ones wait
  int prefill_batch_size = 8;      // prompts that are computed at once
  int prefill_step_size = 2048;    // prompt tokens computed at a time, of all prompts together at most
  int max_kv_size = 0;             // tokens that each layer may keep of a text; 0: all
  int kv_bits = 0;                 // these three as in StepOptions
  int kv_group_size = 64;
  int quantized_kv_start = 0;

  // Errors: RequestError that names the option.
  void validate() const;
};

// What is one text's own.
struct SequenceOptions {
  int max_tokens = 128;                                    // tokens to make, at least 1; -1: no end
  std::set<int> stop_tokens;                               // that end the text
  sample::Sampler sampler;                                 // empty: the likeliest token
  std::vector<sample::LogitsProcessor> logits_processors;  // change the logits first, one after another
  std::shared_ptr<sample::Constraint> constraint;          // what the text has to be; null: anything
  cache::KVCaches prompt_cache;                            // what came before the prompt, taken over; empty: nothing
  std::vector<int> cached_tokens;                          // of prompt_cache, for processors that look back
  bool return_cache = false;                               // hand the caches out at the end
  // After how many tokens of the prompt on_snapshot is called, ascending: with that many and the caches that hold them
  // and what was before, to be copied from there; they go on right after. The prompt's pieces end there too.
  std::vector<int> snapshots;
  std::function<void(int tokens, const cache::KVCaches& caches)> on_snapshot;
};

// Computes one step at a time for all texts. The bits of a text's result do not depend on the others: they are those of
// generate_step() with the same prefill_step_size.
// Threads: all calls on one thread. The model must outlive it. Source: mlx_lm/generate.py, BatchGenerator.
class BatchGenerator {
 public:
  // Errors: RequestError for options out of range.
  explicit BatchGenerator(const models::LanguageModel& model, const BatchOptions& options = {});
  ~BatchGenerator();
  BatchGenerator(const BatchGenerator&) = delete;
  BatchGenerator& operator=(const BatchGenerator&) = delete;

  // A new text, which begins with one of the next steps; the number it is known by.
  // Errors: RequestError for an empty prompt or options out of range.
  int insert(std::vector<int> prompt, SequenceOptions options = {});
  // Ends a text early. Returns its caches as far as they are; empty for a text that is not there (any more). Nothing
  // else of it is held any longer. Eval: waits for the step under way, if it is one of its texts.
  cache::KVCaches remove(int uid);

  struct Response {
    int uid;
    int token;
    mx::array logprobs;                         // (V), of every token that could have come; lazy
    std::optional<FinishReason> finish_reason;  // with the last token of a text
    cache::KVCaches caches;  // with the last token, if wanted; they hold that token too, but not after a constraint
    // With FinishReason::failed, which has no token (-1): what a sampler, processor, constraint or on_snapshot of this
    // text threw. The others go on.
    std::exception_ptr error = nullptr;
  };
  // Tokens of prompts that were computed: (so far, in all).
  struct Progress {
    int uid;
    int processed, total;
  };
  // One step: a token for every text whose prompt is computed, and a piece of the prompts that wait. Computes one step
  // ahead, so that the first tokens come with the second call; while a text has a constraint, whose next mask depends
  // on the token before, a step begins only when the one before is done. Prompts take turns.
  // Errors: what the model's step throws, which is nobody's in particular: no further call makes sense then. Eval:
  // forces the step before.
  std::vector<Response> next();
  // The prompts that the last next() went on with.
  const std::vector<Progress>& progress() const { return progress_; }

  // No text is left.
  bool empty() const { return waiting_.empty() && prefilling_.empty() && running_.empty(); }
  // Texts whose tokens are being made; all texts.
  int running() const { return int(running_.size()); }
  int size() const { return int(waiting_.size() + prefilling_.size() + running_.size()); }
  // Of all texts' caches.
  size_t cache_nbytes() const;

  // What was computed so far, and in how much time. A prompt's last token counts as the first step's.
  struct Stats {
    int prompt_tokens = 0, generation_tokens = 0;
    double prompt_seconds = 0, generation_seconds = 0;
  };
  const Stats& stats() const { return stats_; }

 private:
  struct Sequence;
  struct Step;
  using Sequences = std::vector<std::shared_ptr<Sequence>>;

  void quantize(const Sequences& sequences);
  void choose(Sequence& sequence, const mx::array& input, mx::array& logits, mx::array& token);
  std::optional<Response> finish(Sequence& sequence, int token, const mx::array& logits);
  void end_failed(std::vector<Response>& responses);
  void admit();
  void prefill();
  bool constrained() const;
  std::unique_ptr<Step> start_step();
  std::vector<Response> finish_step(Step& step);

  const models::LanguageModel& model_;
  BatchOptions options_;
  int next_uid_ = 0;
  int steps_ = 0;
  std::deque<std::shared_ptr<Sequence>> waiting_;
  Sequences prefilling_;  // prompts that are computed but for their last token, at most
  Sequences running_;     // texts of the step under way, or of the next
  std::unique_ptr<Step> under_way_;
  std::vector<Progress> progress_;
  Stats stats_;
};

}  // namespace mlx_lm
