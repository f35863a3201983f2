// Mamba: a pure state-space model whose channels have states of their own. Falcon Mamba adds norms.
// Source: mlx_lm/models/mamba.py of mlx-lm 0.32. Keys follow Hugging Face's MambaConfig.
// Shapes: B batch, L new tokens, E hidden, C inner channels, R time-step rank, N state size, V vocabulary.

#include <optional>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/short_convolution.h"
#include "mlx_lm/nn/state_space_model.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::models {
namespace {

constexpr float kNormEps = 1e-5f;

struct Config {
  explicit Config(const ConfigReader& c)
      : vocab_size(c.get_size("vocab_size")),
        hidden_size(c.get_size("hidden_size")),
        intermediate_size(c.get_size("intermediate_size", 1, ConfigReader::kMaxSize / 2)),
        state_size(c.get_size("state_size", 1, 65536)),
        num_hidden_layers(c.get_size("num_hidden_layers", 1, 4096)),
        conv_kernel(c.get_size("conv_kernel", 2, 4096)),
        use_bias(c.get<bool>("use_bias")),
        use_conv_bias(c.get<bool>("use_conv_bias")),
        time_step_rank(automatic(c) ? (hidden_size + 15) / 16 : c.get_size("time_step_rank", 1, 1 << 24)),
        tie_word_embeddings(c.get<bool>("tie_word_embeddings", true)) {
    if (c.get<std::string>("model_type") == "falcon_mamba" || c.get<bool>("use_bcdt_rms", false)) {
      mixer_rms_eps = c.get<float>("mixer_rms_eps", 1e-6f);
    }
    if (int64_t(intermediate_size) * state_size > ConfigReader::kMaxSize) {
      fail<ConfigError>("[config] {}: state_size: expected at most {} for {} channels, found {}", c.where(),
                        ConfigReader::kMaxSize / intermediate_size, intermediate_size, state_size);
    }
  }

  static bool automatic(const ConfigReader& c) {
    return c.has("time_step_rank") && c.json()["time_step_rank"] == "auto";
  }

  int vocab_size, hidden_size, intermediate_size, state_size, num_hidden_layers, conv_kernel;
  bool use_bias, use_conv_bias;
  int time_step_rank;
  bool tie_word_embeddings;
  std::optional<float> mixer_rms_eps;
};

class MambaBlock {
 public:
  MambaBlock(const Config& c, const nn::Weights& w)
      : inner_(c.intermediate_size),
        rank_(c.time_step_rank),
        state_size_(c.state_size),
        rms_eps_(c.mixer_rms_eps),
        in_proj_(w / "in_proj", c.hidden_size, 2 * inner_, c.use_bias),
        conv1d_(w / "conv1d", inner_, c.conv_kernel, c.use_conv_bias, /* silu */ true),
        x_proj_(w / "x_proj", inner_, rank_ + 2 * state_size_),
        dt_proj_(w / "dt_proj", rank_, inner_, /* bias */ true),
        rates_(nn::take_decay_rates(w, {inner_, state_size_})),
        skip_(w.take_vector("D", inner_)),
        out_proj_(w / "out_proj", inner_, c.hidden_size, c.use_bias) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& input, cache::StateCache& cache) const {
    const int length = input.shape(1);
    const auto all = in_proj_(input);                   // (B, L, C | gate)
    const auto x = conv1d_({{all, 0, inner_}}, cache);  // (B, L, C)
    const auto own = x_proj_(x);                        // (B, L, R | N | N)
    const auto steps = normed({own, 0, rank_});         // (B, L, R)
    const auto b = normed({own, rank_, state_size_}), c = normed({own, rank_ + state_size_, state_size_});
    const auto dt = dt_proj_(ops::take_columns(steps));  // (B, L, C)
    const auto y = ops::selective_scan(x, dt, b, c, rates_, skip_, cache.runs(1, length));
    cache.advance(length);
    return out_proj_(nn::swiglu(ops::take_columns({all, inner_, inner_}), y));
  }

 private:
  ops::Columns normed(const ops::Columns& columns) const {
    return rms_eps_ ? ops::Columns(ops::rms_norm(ops::take_columns(columns), *rms_eps_)) : columns;
  }

  int inner_, rank_, state_size_;
  std::optional<float> rms_eps_;
  nn::Linear in_proj_;
  nn::ShortConvolution conv1d_;
  nn::Linear x_proj_, dt_proj_;
  mx::array rates_, skip_;
  nn::Linear out_proj_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        backbone_(w / "backbone",
                  {.vocab_size = config_.vocab_size,
                   .hidden_size = config_.hidden_size,
                   .layers = config_.num_hidden_layers,
                   .eps = kNormEps,
                   .final_eps = kNormEps},
                  [&](const nn::Weights& mixer) { return MambaBlock(config_, mixer); }),
        lm_head_(w, config_.tie_word_embeddings, config_.hidden_size, config_.vocab_size) {}

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(backbone_(tokens, caches), backbone_.embeddings());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

  cache::KVCaches make_cache(int /*max_kv_size*/) const override { return backbone_.make_cache(); }

 private:
  Config config_;
  nn::StateSpaceModel<MambaBlock> backbone_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(mamba, Model, "mamba", "falcon_mamba");

}  // namespace mlx_lm::models
