// Mamba 2: a pure state-space model.
// Source: mlx_lm/models/mamba2.py of mlx-lm 0.32. Keys follow Hugging Face's Mamba2Config.
// Shapes: B batch, L new tokens, E hidden, V vocabulary.

#include "mlx_lm/nn/mamba2.h"

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/state_space_model.h"
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

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        backbone_(w / "backbone",
                  {.vocab_size = config_.vocab_size,
                   .hidden_size = config_.mixer.hidden_size,
                   .layers = config_.num_hidden_layers,
                   .final_eps = config_.mixer.eps},
                  [&](const nn::Weights& mixer) { return nn::Mamba2Mixer(mixer, config_.mixer); }),
        lm_head_(w, config_.tie_word_embeddings, config_.mixer.hidden_size, config_.vocab_size) {}

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(backbone_(tokens, caches), backbone_.embeddings());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

  cache::KVCaches make_cache(int /*max_kv_size*/) const override { return backbone_.make_cache(); }

 private:
  Config config_;
  nn::StateSpaceModel<nn::Mamba2Mixer> backbone_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(mamba2, Model, "mamba2");

}  // namespace mlx_lm::models
