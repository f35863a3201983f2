// Rotary position embedding with every scaling that configurations ask for.
#pragma once

#include <optional>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/ops/attention.h"

namespace mlx_lm::nn {
namespace mx = mlx::core;

// Source: mlx_lm/models/rope_utils.py. rope_scaling["type"] (or "rope_type"): default, linear, dynamic, llama3, yarn
// (also deepseek_yarn, telechat3-yarn), longrope, proportional, mrope; and `factors`, an explicit list of
// per-frequency factors, which GGUF files carry for llama3.
class Rope {
 public:
  struct Options {
    int dims = 0;  // entries of a head that rotate
    float base = 10000.f;
    bool traditional = false;
    int max_position_embeddings = 0;  // needed by dynamic and longrope
  };
  // scaling: the object under rope_scaling, if any. Errors: ConfigError for a field that is missing or makes no sense,
  // UnsupportedModel for an unknown type.
  Rope(const Options& options, const std::optional<ConfigReader>& scaling);

  // Rotates the tokens of each run to their positions. Shapes: x (B, L, H, D) -> the same.
  mx::array operator()(const mx::array& x, const ops::Runs& runs) const;
  // The same for one run: x's first row stands at position `offset`.
  mx::array operator()(const mx::array& x, int offset) const { return (*this)(x, ops::Runs{{x.shape(1), offset}}); }

 private:
  void apply(const Options& options, const ConfigReader& scaling, ops::Rope::Options& rope);

  std::optional<ops::Rope> rope_;
  float dynamic_factor_ = 0;  // > 0: the base grows with the length of the text (dynamic NTK)
  int max_position_embeddings_ = 0;
};

}  // namespace mlx_lm::nn
