// What a model file implements, and the line by which it registers itself.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/nn/transformer.h"
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
  // Those with a cache.
  virtual int num_layers() const = 0;
  // Tokens that it knows: ids run below this.
  virtual int vocab_size() const = 0;

  // Empty caches for one text or one batch. max_kv_size: tokens that a layer may keep; 0 for all. A full ring keeps
  // the first four tokens, as mlx-lm's does.
  virtual cache::KVCaches make_cache(int max_kv_size = 0) const;

  // The same where layers slide, which have rings of their windows. windows: as of nn::DecoderConfig.
  cache::KVCaches make_cache(int max_kv_size, const std::vector<int>& windows) const;

  // The type of the checkpoint's floating-point weights, and so of the caches.
  mx::Dtype dtype() const { return dtype_; }
  // Its parameters, and what a step reads and multiplies.
  const nn::WeightTotals& totals() const { return *totals_; }

 private:
  mx::Dtype dtype_;
  std::shared_ptr<const nn::WeightTotals> totals_;
};

// What the Model of many a file is: an nn::Decoder and an output layer.
// Config: derives from nn::DecoderConfig, which has more on its use. Block: see nn::Decoder.
template <class Config, class Block, class Norm = nn::RMSNorm>
class DecoderModel : public LanguageModel {
 public:
  DecoderModel(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        model_(config_, w / config_.names.model),
        lm_head_(w, config_.tied(w), config_.hidden_size, config_.vocab_size, config_.lm_head_bias,
                 config_.names.lm_head) {
    if (config_.stores_inv_freq) w.ignore("rotary_emb.inv_freq");
  }

  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(model_(tokens, caches), model_.embed_tokens());
  }
  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }
  // Layers that slide have a ring of their window, whatever max_kv_size says.
  cache::KVCaches make_cache(int max_kv_size) const override {
    return LanguageModel::make_cache(max_kv_size, config_.windows);
  }

 protected:
  const Config& config() const { return config_; }

 private:
  Config config_;
  nn::Decoder<Block, Norm> model_;
  nn::LMHead lm_head_;
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

// The language model of a checkpoint that also sees or hears. The file of such a type brings it into the form of the
// architecture that the language model alone would have, and has that one make it.
struct TextPart {
  // Ignores the tensors of the other senses, and names the rest as mlx-lm does: below `language_model`.
  TextPart(const ConfigReader& all, const nn::Weights& w);
  // Gives a field of the configuration its value, or only one that it may lack.
  void set(const std::string& key, nlohmann::json value);
  void set_default(const std::string& key, nlohmann::json value);
  // Errors: those of the architecture that serves model_type, and of its model.
  std::unique_ptr<LanguageModel> make(const std::string& model_type) const;

  ConfigReader config;  // text_config, or the whole of a configuration that has none
  nn::Weights weights;
};

}  // namespace mlx_lm::models

// The last line of a model file, in namespace mlx_lm::models. stem: the file's name without .cpp, and _ for -.
#define MLX_LM_ARCHITECTURE(stem, Model, ...) MLX_LM_ARCHITECTURE_BY(stem, &make_model<Model>, __VA_ARGS__)
// The same for a file that has no Model of its own. make: as in Architecture.
#define MLX_LM_ARCHITECTURE_BY(stem, make, ...)                      \
  static constexpr std::string_view kTypes_##stem[] = {__VA_ARGS__}; \
  extern const Architecture arch_##stem;                             \
  constinit const Architecture arch_##stem { kTypes_##stem, make }
