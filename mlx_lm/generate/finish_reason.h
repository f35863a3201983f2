// Why a text ended.
#pragma once

namespace mlx_lm {

enum class FinishReason {
  stop,       // an end token came
  length,     // max_tokens are made
  cancelled,  // from outside: StepOptions::stop
  failed,     // by what a part of its own threw: BatchGenerator::Response::error
};

}  // namespace mlx_lm
