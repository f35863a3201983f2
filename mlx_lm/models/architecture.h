// What a model file implements, and the line by which it registers itself.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <mlx/mlx.h>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/nn/weights.h"

namespace mlx_lm::models {
namespace mx = mlx::core;

// A decoder: tokens and caches in, logits out. Threads: one step at a time for each set of caches.
class LanguageModel {
 public:
  explicit LanguageModel(const nn::Weights& w) : dtype_(w.dtype()), totals_(w.totals()) {}
  virtual ~LanguageModel() = default;

  // Appends the tokens to the caches. Shapes: tokens (B, L) int32 -> logits (B, L, V). Eval: lazy.
  virtual mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const = 0;
  virtual int num_layers() const = 0;
  // Tokens that it knows: ids run below this.
  virtual int vocab_size() const = 0;

  // Empty caches for one text or one batch. max_kv_size: tokens that a layer may keep; 0 for all. A full ring keeps
  // the first four tokens, as mlx-lm's does.
  virtual cache::KVCaches make_cache(int max_kv_size = 0) const;

  // The type of the checkpoint's floating-point weights, and so of the caches.
  mx::Dtype dtype() const { return dtype_; }
  // Its parameters, and what a step reads and multiplies.
  const nn::WeightTotals& totals() const { return *totals_; }

 private:
  mx::Dtype dtype_;
  std::shared_ptr<const nn::WeightTotals> totals_;
};

// One file in models/: the model_types that it serves, and how to make its model.
struct Architecture {
  std::span<const std::string_view> types;
  std::unique_ptr<LanguageModel> (*make)(const ConfigReader& config, const nn::Weights& weights);
};

// Every file in models/; the build writes the table.
std::span<const Architecture* const> architectures();

// What it is and is made of: the first sentence of its file.
std::string_view description(const Architecture& architecture);

// The architecture that serves a model_type. Errors: UnsupportedModel that lists the known ones, nearest first.
const Architecture& find_architecture(const std::string& model_type);

template <class M>
std::unique_ptr<LanguageModel> make_model(const ConfigReader& config, const nn::Weights& weights) {
  return std::make_unique<M>(config, weights);
}

}  // namespace mlx_lm::models

// The last line of a model file, in namespace mlx_lm::models. stem: the file's name without .cpp.
#define MLX_LM_ARCHITECTURE(stem, Model, ...)                        \
  static constexpr std::string_view kTypes_##stem[] = {__VA_ARGS__}; \
  extern const Architecture arch_##stem;                             \
  constinit const Architecture arch_##stem { kTypes_##stem, &make_model<Model> }
