// Why a text ended.
#pragma once

namespace mlx_lm {

enum class FinishReason {
  stop,       // an end token came
  length,     // max_tokens are made
  cancelled,  // from outside: StepOptions::stop
};

}  // namespace mlx_lm
