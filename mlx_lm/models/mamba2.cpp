// Mamba 2: a pure state-space model.
// Source: mlx_lm/models/mamba2.py of mlx-lm 0.32. Keys follow Hugging Face's Mamba2Config.
// Shapes: B batch, L new tokens, E hidden, V vocabulary.

#include "mlx_lm/nn/mamba2.h"

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::models {
namespace {

struct Config {
  explicit Config(const ConfigReader& c)
      : vocab_size(c.get_size("vocab_size")),
        num_hidden_layers(c.get_size("num_hidden_layers", 1, 4096)),
        tie_word_embeddings(c.get<bool>("tie_word_embeddings")) {
    mixer.hidden_size = c.get_size("hidden_size");
    mixer.heads = c.get_size("num_heads", 1, 65536);
    mixer.head_dim = c.get_size("head_dim", 1, 65536);
    mixer.state_size = c.get_size_or("ssm_state_size", c.get_size_or("state_size", 0, 0, 65536), 1, 65536);
    mixer.groups = c.get_size("n_groups", 1, 65536);
    mixer.taps = c.get_size("conv_kernel", 2, 4096);
    mixer.conv_bias = c.get<bool>("use_conv_bias");
    mixer.proj_bias = c.get<bool>("use_bias");
    mixer.eps = c.get<float>("layer_norm_epsilon");
    mixer.read_time_step_limit(c);
    mixer.check(c);
  }

  int vocab_size, num_hidden_layers;
  bool tie_word_embeddings;
  nn::Mamba2Mixer::Options mixer;
};

class ResidualBlock {
 public:
  ResidualBlock(const Config& c, const nn::Weights& w)
      : mixer_(w / "mixer", c.mixer), norm_(w / "norm", c.mixer.hidden_size, 1e-5f) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::StateCache& cache) const {
    return ops::residual_add(x, mixer_(norm_(x), cache));
  }

 private:
  nn::Mamba2Mixer mixer_;
  nn::RMSNorm norm_;
};

class Mamba2 {
 public:
  Mamba2(const Config& c, const nn::Weights& w)
      : embeddings_(w / "embeddings", c.vocab_size, c.mixer.hidden_size),
        norm_f_(w / "norm_f", c.mixer.hidden_size, c.mixer.eps) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers_.emplace_back(c, w / "layers" / i);
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = embeddings_(tokens);
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, states(*caches[i]));
    return norm_f_(h);
  }

  const nn::Embedding& embeddings() const { return embeddings_; }

 private:
  nn::Embedding embeddings_;
  std::vector<ResidualBlock> layers_;
  nn::RMSNorm norm_f_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        backbone_(config_, w / "backbone"),
        lm_head_(w, config_.tie_word_embeddings, config_.mixer.hidden_size, config_.vocab_size) {}

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(backbone_(tokens, caches), backbone_.embeddings());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

  // A state has one size, whatever the text's.
  cache::KVCaches make_cache(int /*max_kv_size*/) const override {
    cache::KVCaches caches;
    for (int i = 0; i < num_layers(); ++i) caches.push_back(std::make_unique<cache::StateCache>(2));
    return caches;
  }

 private:
  Config config_;
  Mamba2 backbone_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(mamba2, Model, "mamba2");

}  // namespace mlx_lm::models
