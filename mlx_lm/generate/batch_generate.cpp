#include "mlx_lm/generate/batch_generate.h"

#include <map>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/backend.h"

namespace mlx_lm {
namespace {

BatchStats to_stats(const BatchGenerator::Stats& s) {
  const auto rate = [](int tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0.; };
  return {.prompt_tokens = s.prompt_tokens,
          .generation_tokens = s.generation_tokens,
          .prompt_tps = rate(s.prompt_tokens, s.prompt_seconds),
          .generation_tps = rate(s.generation_tokens, s.generation_seconds),
          .prompt_time = s.prompt_seconds,
          .generation_time = s.generation_seconds,
          .peak_memory = double(ops::peak_memory()) / 1e9};
}

}  // namespace

BatchResult batch_generate(const models::LanguageModel& model, const text::TokenizerWrapper& tokenizer,
                           std::vector<BatchPrompt> prompts, const BatchGenerateOptions& o) {
  BatchGenerator generator(model, o.batch);
  BatchResult result;
  std::map<int, size_t> open;  // uid to prompt
  std::vector<std::unique_ptr<text::Detokenizer>> detokenizers;
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto& [tokens, options] = prompts[i];
    options.stop_tokens.insert(tokenizer.eos_token_ids().begin(), tokenizer.eos_token_ids().end());
    result.answers.push_back({i, "", {}, int(tokens.size()), FinishReason::cancelled, {}});
    detokenizers.push_back(tokenizer.detokenizer());
    try {
      open[generator.insert(std::move(tokens), std::move(options))] = i;
    } catch (const RequestError& error) {
      fail<RequestError>("{} (prompt {} of {})", error.what(), i + 1, prompts.size());
    }
  }

  const auto finish = [&](size_t i, FinishReason reason) {
    auto& answer = result.answers[i];
    detokenizers[i]->finalize();
    answer.text += detokenizers[i]->last_segment();
    answer.finish_reason = reason;
    if (o.on_answer) o.on_answer(answer);
  };
  while (!generator.empty() && !o.stop.stop_requested()) {
    for (auto& response : generator.next()) {
      const size_t i = open.at(response.uid);
      auto& answer = result.answers[i];
      if (response.error) std::rethrow_exception(response.error);
      answer.tokens.push_back(response.token);
      if (response.finish_reason != FinishReason::stop) detokenizers[i]->add_token(response.token);
      answer.text += detokenizers[i]->last_segment();
      if (!response.finish_reason) continue;
      answer.caches = std::move(response.caches);
      open.erase(response.uid);
      finish(i, *response.finish_reason);
    }
    if (o.on_step) o.on_step(to_stats(generator.stats()));
  }
  for (const auto& [uid, i] : open) {
    result.answers[i].caches = generator.remove(uid);
    finish(i, FinishReason::cancelled);
  }
  result.stats = to_stats(generator.stats());
  return result;
}

}  // namespace mlx_lm
