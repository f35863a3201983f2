#include "mlx_lm/generate/stream_generate.h"

#include <chrono>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/sample/constraint.h"

namespace mlx_lm {
namespace {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  void restart() { start_ = Clock::now(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

std::vector<int> to_ids(const text::TokenizerWrapper& tokenizer, Prompt prompt) {
  if (auto* ids = std::get_if<std::vector<int>>(&prompt)) return std::move(*ids);
  const auto& text = std::get<std::string>(prompt);
  const bool has_bos = tokenizer.bos_token() && text.starts_with(*tokenizer.bos_token());
  return tokenizer.encode(text, /* add_special_tokens */ !has_bos);
}

}  // namespace

Generator<GenerationResponse> stream_generate(const models::LanguageModel& model,
                                              const text::TokenizerWrapper& tokenizer, Prompt prompt, StepOptions o) {
  if (o.max_tokens == 0) fail<RequestError>("[generate] max-tokens: expected 1 or more, or -1 for no limit, found 0");
  auto ids = to_ids(tokenizer, std::move(prompt));
  const int vocabulary_end = model.vocab_size(), prompt_tokens = int(ids.size());
  for (int id : ids) {
    if (id < 0 || id >= vocabulary_end) {
      fail<RequestError>("[generate] prompt: expected tokens below the model's {}, found {}", vocabulary_end, id);
    }
  }
  const auto detokenizer = tokenizer.detokenizer();
  const int max_tokens = o.max_tokens;
  const auto stop = o.stop;
  auto* const constraint = o.constraint;

  GenerationResponse r{"", 0, mx::array(0.f), false, prompt_tokens, 0, 0, 0, 0, std::nullopt};
  Stopwatch watch;
  for (auto& step : generate_step(std::move(ids), model, std::move(o))) {
    if (r.generation_tokens == 0) {
      r.prompt_tps = prompt_tokens / watch.seconds();
      watch.restart();
    }
    r.token = step.token;
    r.logprobs = step.logprobs;
    r.from_draft = step.from_draft;
    r.generation_tokens += 1;
    r.generation_tps = r.generation_tokens / watch.seconds();
    r.peak_memory = double(ops::peak_memory()) / 1e9;
    if (tokenizer.eos_token_ids().contains(r.token)) {
      r.finish_reason = FinishReason::stop;
      break;
    }
    detokenizer->add_token(r.token);
    if (r.generation_tokens == max_tokens) break;
    r.text = detokenizer->last_segment();
    co_yield r;
  }
  detokenizer->finalize();
  r.text = detokenizer->last_segment();
  if (!r.finish_reason) {
    r.finish_reason = constraint && constraint->is_done() ? FinishReason::stop
                      : stop.stop_requested()             ? FinishReason::cancelled
                                                          : FinishReason::length;
  }
  co_yield r;
}

std::string generate(const models::LanguageModel& model, const text::TokenizerWrapper& tokenizer, Prompt prompt,
                     StepOptions options, std::ostream* verbose) {
  const std::string rule(10, '=');
  std::string text;
  std::optional<GenerationResponse> last;
  for (auto& response : stream_generate(model, tokenizer, std::move(prompt), std::move(options))) {
    if (verbose) {
      // Only now: a call that fails before the first token writes nothing.
      if (!last) *verbose << rule << '\n';
      *verbose << response.text << std::flush;
    }
    text += response.text;
    last = response;
    if (verbose && !*verbose) break;  // nobody reads on, and without a limit the answer might never end
  }
  if (verbose) {
    *verbose << '\n' << rule << '\n';
    if (text.empty()) {
      *verbose << "No text generated for this prompt" << std::endl;
    } else {
      *verbose << fmt::format(
                      "Prompt: {} tokens, {:.3f} tokens-per-sec\nGeneration: {} tokens, {:.3f} tokens-per-sec\n"
                      "Peak memory: {:.3f} GB",
                      last->prompt_tokens, last->prompt_tps, last->generation_tokens, last->generation_tps,
                      last->peak_memory)
               << std::endl;
    }
  }
  return text;
}

}  // namespace mlx_lm
