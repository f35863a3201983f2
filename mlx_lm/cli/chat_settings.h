// What /set changes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/generate/generate_step.h"
#include "mlx_lm/sample/logits_processors.h"
#include "mlx_lm/sample/sampler.h"
#include "mlx_lm/text/tokenizer_wrapper.h"

namespace mlx_lm::cli {

// Names are those of the flags, without their dashes.
struct ChatSettings {
  int max_tokens = 256;
  sample::SamplerOptions sampler{.top_p = 1.f};
  sample::PenaltyOptions penalties;

  static std::vector<std::string_view> names();

  // seed takes "none" too. Errors: RequestError, and nothing has changed; an unknown name's has the nearest known one.
  void set(const std::string& name, const std::string& value);
  // The value as set() takes it. Errors: as above.
  std::string get(const std::string& name) const;

  // {"temp": 0.7, ...}. A name that is not there keeps its value. Errors: RequestError, and nothing has changed.
  nlohmann::json to_json() const;
  void set_all(const nlohmann::json& values);

  // Errors: RequestError for a logit-bias of tokens that the model lacks.
  StepOptions options(const text::TokenizerWrapper& tokenizer, int vocab_size) const;
};

}  // namespace mlx_lm::cli
