#include "mlx_lm/generate/batch_generator.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/batch.h"
#include "mlx_lm/generate/batch_sequence.h"
#include "mlx_lm/generate/steps.h"
#include "mlx_lm/ops/ops.h"

namespace mlx_lm {
namespace {

// With more texts than so many, drafts are not worth their rows: the step is bound by arithmetic then.
constexpr int kDraftingTexts = 4;

// Steps after which MLX's pool of freed buffers is emptied: their sizes change as the caches grow.
constexpr int kClearCacheEvery = 256;

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

StepOptions to_step_options(const BatchOptions& o) {
  return {.max_kv_size = o.max_kv_size,
          .kv_bits = o.kv_bits,
          .kv_group_size = o.kv_group_size,
          .quantized_kv_start = o.quantized_kv_start,
          .prefill_step_size = o.prefill_step_size};
}

}  // namespace

void BatchOptions::validate() const {
  const auto check = [](const char* name, int value, int least) {
    if (value < least) fail<RequestError>("[generate] {}: expected at least {}, found {}", name, least, value);
  };
  check("completion-batch-size", completion_batch_size, 1);
  check("prefill-batch-size", prefill_batch_size, 1);
  to_step_options(*this).validate();
}

BatchGenerator::BatchGenerator(const models::LanguageModel& model, const BatchOptions& options)
    : model_(model), options_(options) {
  options_.validate();
}

BatchGenerator::~BatchGenerator() = default;

int BatchGenerator::insert(std::vector<int> prompt, SequenceOptions options) {
  if (prompt.empty()) fail<RequestError>("[generate] prompt: expected at least one token, found none");
  for (int id : prompt) {
    if (id < 0 || id >= model_.vocab_size()) {
      fail<RequestError>("[generate] prompt: expected tokens below the model's {}, found {}", model_.vocab_size(), id);
    }
  }
  if (options.max_tokens < 1 && options.max_tokens != -1) {
    fail<RequestError>("[generate] max-tokens: expected 1 or more, or -1 for no limit, found {}", options.max_tokens);
  }
  for (int last = 0; int tokens : options.snapshots) {
    if (tokens <= std::exchange(last, tokens) || tokens > int(prompt.size()) || !options.on_snapshot) {
      fail<RequestError>(
          "[generate] snapshots: expected ascending numbers of 1 to {} tokens and an on_snapshot, "
          "found {}",
          prompt.size(), options.on_snapshot ? std::to_string(tokens) : "no on_snapshot");
    }
  }
  auto caches =
      options.prompt_cache.empty() ? model_.make_cache(options_.max_kv_size) : std::move(options.prompt_cache);
  if (int(caches.size()) != model_.num_layers()) {
    fail<RequestError>("[generate] prompt_cache: expected {} layers, found {}", model_.num_layers(), caches.size());
  }
  if (options.drafter && options.num_draft_tokens < 1) {
    fail<RequestError>("[generate] num-draft-tokens: expected 1 or more, found {}", options.num_draft_tokens);
  }
  const int uid = next_uid_++;
  auto sequence = std::make_shared<Sequence>(Sequence{uid, std::move(prompt), std::move(options), std::move(caches)});
  if (sequence->options.constraint || sequence->options.drafter) sequence->be_careful();
  waiting_.push_back(std::move(sequence));
  return uid;
}

cache::KVCaches BatchGenerator::remove(int uid) {
  cache::KVCaches caches;
  const auto take = [&](auto& sequences) {
    const auto found = std::find_if(sequences.begin(), sequences.end(), [&](const auto& s) { return s->uid == uid; });
    if (found == sequences.end()) return;
    caches = std::move((*found)->caches);
    if (under_way_ && std::ranges::find(under_way_->sequences, *found) != under_way_->sequences.end()) {
      under_way_->settle();
    }
    (*found)->end();
    sequences.erase(found);
  };
  take(waiting_);
  take(prefilling_);
  take(running_);
  return caches;
}

size_t BatchGenerator::cache_nbytes() const {
  size_t sum = 0;
  for (const auto* sequences : {&prefilling_, &running_}) {
    for (const auto& sequence : *sequences) sum += cache::nbytes(sequence->caches);
  }
  for (const auto& sequence : waiting_) sum += cache::nbytes(sequence->caches);
  return sum;
}

void BatchGenerator::quantize(const Sequences& sequences) {
  if (options_.kv_bits == 0) return;
  for (const auto& sequence : sequences) quantize_kv(sequence->caches, to_step_options(options_));
}

void BatchGenerator::admit() {
  while (!waiting_.empty() && int(prefilling_.size()) < options_.prefill_batch_size &&
         int(prefilling_.size() + running_.size()) < options_.completion_batch_size) {
    prefilling_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

// The next pieces of prompts, as many as make a step, those first that have waited longest: so a short prompt is not
// held up by a long one, nor a long one by many short ones (as it would be by the shortest first). Where a prompt is
// cut does not depend on the others, and neither do the bits of its result. Prompts of which one token is left join the
// running texts: the step with that token makes their first.
void BatchGenerator::prefill() {
  progress_.clear();
  std::vector<int> tokens;
  std::vector<cache::BatchMember> members;
  Sequences served, others;
  for (auto& sequence : prefilling_) {
    const int left = int(sequence->prompt.size()) - 1 - sequence->processed;
    const int n = std::min({left, sequence->stretch(), options_.prefill_step_size});
    if (n == 0 || int(tokens.size()) + n > options_.prefill_step_size) {
      others.push_back(std::move(sequence));
      continue;
    }
    const auto begin = sequence->prompt.begin() + sequence->processed;
    tokens.insert(tokens.end(), begin, begin + n);
    members.push_back({&sequence->caches, n});
    sequence->processed += n;
    stats_.prompt_tokens += n;
    progress_.push_back({sequence->uid, sequence->processed, int(sequence->prompt.size())});
    served.push_back(std::move(sequence));
  }
  prefilling_ = std::move(others);
  prefilling_.insert(prefilling_.end(), served.begin(), served.end());
  if (!members.empty()) {
    auto caches = cache::batched(members);
    // The logits are never asked for, so neither the output layer nor the last layer's MLP is computed.
    model_(mx::array(tokens.data(), {1, int(tokens.size())}, mx::int32), caches);
    quantize(prefilling_);
    join(caches);
    eval_state(caches);
    for (const auto& sequence : served) sequence->snapshot(sequence->processed);
    mx::clear_cache();
  }
  const auto ready = std::stable_partition(prefilling_.begin(), prefilling_.end(),
                                           [](const auto& s) { return s->processed + 1 < int(s->prompt.size()); });
  std::move(ready, prefilling_.end(), std::back_inserter(running_));
  prefilling_.erase(ready, prefilling_.end());
}

// No step may be built before the one under way is done.
bool BatchGenerator::careful() const {
  return (under_way_ && under_way_->careful) ||
         std::any_of(running_.begin(), running_.end(), [](const auto& s) { return s->careful(); });
}

// The step after the one under way, whose tokens it takes without waiting for them.
std::unique_ptr<BatchGenerator::Step> BatchGenerator::start_step() {
  Sequences sequences;
  std::vector<cache::BatchMember> members;
  std::vector<int> continued;  // rows of the step under way
  std::vector<int> known;      // tokens: the last of prompts, or those of a step that is done, and guesses
  std::vector<TokenChooser::Guesses> guesses;
  const bool drafting = running() <= kDraftingTexts;
  // Those of the step under way come first and in its order, since running_ only ever grows at its end.
  for (const auto& sequence : running_) {
    if (!sequence->goes_on()) continue;
    if (sequence->started > sequence->made) {
      const auto& rows = under_way_->sequences;
      continued.push_back(int(std::find(rows.begin(), rows.end(), sequence) - rows.begin()));
    } else {
      known.push_back(sequence->made > 0 ? sequence->newest : sequence->prompt.back());
    }
    if (sequence->started == 0) stats_.prompt_tokens += 1;
    sequences.push_back(sequence);
    auto& guessed = guesses.emplace_back();
    if (sequence->careful()) sequence->guard([&] { guessed = sequence->guess(drafting); });
    known.insert(known.end(), guessed.tokens.begin(), guessed.tokens.end());
    members.push_back({&sequence->caches, 1 + int(guessed.tokens.size())});
  }
  if (sequences.empty()) return nullptr;

  int n = 0;
  for (const auto& member : members) n += member.tokens;
  std::vector<mx::array> inputs;
  if (!continued.empty()) {
    const auto& before = under_way_->tokens;
    const bool all = continued.size() == under_way_->sequences.size();
    const auto kept = all ? before : mx::take(before, mx::array(continued.data(), {int(continued.size())}), 0);
    inputs.push_back(mx::astype(kept, mx::int32));
  }
  if (!known.empty()) inputs.emplace_back(known.data(), mx::Shape{int(known.size())}, mx::int32);
  auto input = inputs.size() == 1 ? inputs[0] : mx::concatenate(inputs, 0);

  auto caches = cache::batched(members);
  auto logits = model_(mx::reshape(input, {1, n}), caches);  // (1, B, V)
  quantize(sequences);
  const bool greedy = std::all_of(sequences.begin(), sequences.end(), [](const auto& s) { return s->greedy(); });
  std::optional<mx::array> tokens;
  if (greedy) {
    tokens = ops::argmax(logits);
    join(caches, {&logits, &*tokens});
    tokens = mx::reshape(*tokens, {n});
  } else {
    join(caches, {&logits});
  }
  logits = mx::reshape(logits, {n, logits.shape(2)});
  std::vector<mx::array> chosen_by;  // the logits of each token
  if (!tokens) {
    std::vector<mx::array> chosen;
    int at = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      auto& sequence = *sequences[i];
      const int count = members[i].tokens;
      auto own_logits = rows(logits, at, count);
      auto token = mx::zeros({count}, mx::uint32);  // of a text that fails here, or that check() chooses for
      if (!sequence.careful()) {
        sequence.guard([&] { sequence.choose(rows(input, at), own_logits, token); });
      } else if (sequence.greedy()) {
        token = mx::reshape(ops::argmax(own_logits), {count});
      }
      chosen_by.push_back(std::move(own_logits));
      chosen.push_back(std::move(token));
      at += count;
    }
    tokens = mx::concatenate(std::move(chosen), 0);
    mx::async_eval(logits);  // careful texts' tokens do not depend on it all
  } else {
    chosen_by.push_back(logits);
  }
  std::unique_ptr<Step> step(new Step{std::move(sequences), careful(), std::move(guesses), std::move(*tokens),
                                      std::move(chosen_by), state(caches)});
  mx::async_eval(step->tokens);
  for (const auto& sequence : step->sequences) {
    if (sequence->started++ == 0) sequence->snapshot(int(sequence->prompt.size()));
  }
  return step;
}

std::vector<BatchGenerator::Response> BatchGenerator::finish_step(Step& step) {
  std::vector<Response> responses;
  step.tokens.eval();
  const auto* tokens = step.tokens.data<uint32_t>();
  const bool shared = step.logits.size() < step.sequences.size();
  int at = 0;
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    auto& sequence = *step.sequences[i];
    const int first = at;
    at += 1 + int(step.guesses[i].tokens.size());
    if (sequence.ended) continue;
    sequence.guard([&] {
      if (sequence.careful()) return sequence.check(step, i, first, responses);
      responses.push_back(sequence.finish(int(tokens[first]), shared ? rows(step.logits[0], first) : step.logits[i]));
    });
  }
  return responses;
}

// To be called when the tokens before those that failed are handed out.
void BatchGenerator::end_failed(std::vector<Response>& responses) {
  for (auto* sequences : {&prefilling_, &running_}) {
    for (const auto& sequence : *sequences) {
      if (sequence->ended || !sequence->error) continue;
      responses.push_back({sequence->uid, -1, mx::zeros({0}), FinishReason::failed, {}, sequence->error});
      sequence->end();
    }
    std::erase_if(*sequences, [](const auto& s) { return s->ended; });
  }
}

std::vector<BatchGenerator::Response> BatchGenerator::next() {
  const auto start = Clock::now();
  admit();
  prefill();
  const auto prefilled = Clock::now();
  std::vector<Response> responses;
  if (careful()) {
    if (under_way_) responses = finish_step(*std::exchange(under_way_, nullptr));
    under_way_ = start_step();
  } else {
    const auto before = std::exchange(under_way_, start_step());
    if (before) responses = finish_step(*before);
  }
  stats_.generation_tokens += int(responses.size());
  end_failed(responses);
  if (running_.empty()) under_way_.reset();  // a step ahead that nobody wants
  if (++steps_ % kClearCacheEvery == 0) mx::clear_cache();
  if (!progress_.empty()) stats_.prompt_seconds += seconds(prefilled - start);
  stats_.generation_seconds += seconds(Clock::now() - prefilled);
  return responses;
}

}  // namespace mlx_lm
