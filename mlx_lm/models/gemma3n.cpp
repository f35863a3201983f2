// Gemma 3n, the language model alone: several residual streams of which each layer computes one (AltUp), a low-rank
// path beside attention (Laurel), an input of each token for each layer, shared keys and values, and sparse MLPs.
// Source: mlx_lm/models/gemma3n.py of mlx-lm 0.32. Keys follow Hugging Face's Gemma3nConfig.
// Shapes: B batch, L new tokens, E hidden, N streams, P layer input, V vocabulary.

#include <cmath>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/kv_sharing.h"
#include "mlx_lm/nn/layer_inputs.h"
#include "mlx_lm/nn/transformer.h"
#include "mlx_lm/ops/alternating.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/elementwise.h"

namespace mlx_lm::models {
namespace {

// intermediate_size may be a list with a number for each layer.
ConfigReader with_one_width(const ConfigReader& c) {
  auto object = c.json();
  auto& width = object["intermediate_size"];
  if (width.is_array()) width = width.empty() ? nlohmann::json() : nlohmann::json(width[0]);
  return {std::move(object), c.where()};
}

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(with_one_width(c), {.rope_theta = 1000000.f, .tie_word_embeddings = true}),
        sharing(c, num_hidden_layers, c.get_size("num_kv_shared_layers", 0), /* pattern */ 5),
        widths(num_hidden_layers, intermediate_size),
        sparsity(c.get<std::vector<float>>("activation_sparsity_pattern", std::vector<float>(num_hidden_layers))),
        sliding_window(c.get_size("sliding_window")),
        softcap(c.has("final_logit_softcapping") ? c.get_positive("final_logit_softcapping") : 0),
        layer_input(c.get_size("hidden_size_per_layer_input", 1, 65536)),
        layer_input_vocab(c.get_size("vocab_size_per_layer_input")),
        streams(c.get_size("altup_num_inputs", 1, 64)),
        active(c.get_size("altup_active_idx", 0, streams - 1)),
        coef_clip(c.find<float>("altup_coef_clip")),
        correct_scale(c.get<bool>("altup_correct_scale")),
        laurel_rank(c.get_size("laurel_rank", 1, 65536)),
        local_rope(rope) {
    local_rope.base = c.get<float>("rope_local_base_freq");
    if (c.json().at("intermediate_size").is_array()) widths = c.get<std::vector<int>>("intermediate_size");
    check_layers(c, "intermediate_size", widths.size());
    check_layers(c, "activation_sparsity_pattern", sparsity.size());
    for (int width : widths) {
      if (width < 1 || width > ConfigReader::kMaxSize) {
        fail<ConfigError>("[config] {}: intermediate_size: expected numbers from 1 to {}, found {}", c.where(),
                          ConfigReader::kMaxSize, width);
      }
    }
    for (float share : sparsity) {
      if (share < 0 || share >= 1) {
        fail<ConfigError>("[config] {}: activation_sparsity_pattern: expected numbers from 0 to below 1, found {}",
                          c.where(), share);
      }
    }
    if (int64_t(layer_input) * num_hidden_layers > ConfigReader::kMaxSize) {
      fail<ConfigError>("[config] {}: hidden_size_per_layer_input: expected at most {} for {} layers, found {}",
                        c.where(), ConfigReader::kMaxSize / num_hidden_layers, num_hidden_layers, layer_input);
    }
  }

  void check_layers(const ConfigReader& c, const char* key, size_t found) const {
    if (int(found) == num_hidden_layers) return;
    fail<ConfigError>("[config] {}: {}: expected {} entries, found {}", c.where(), key, num_hidden_layers, found);
  }

  nn::SharingAttention::Options attention(int layer) const {
    return {hidden_size,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps,
            sharing.slides(layer) ? sliding_window : 0,
            /* values_are_keys */ false,
            sharing.shares(layer)};
  }

  nn::KVSharing sharing;
  std::vector<int> widths;      // of each layer's MLP
  std::vector<float> sparsity;  // the share of each layer's gates that is 0
  int sliding_window;
  float softcap;  // 0: none
  int layer_input;
  int layer_input_vocab;
  int streams, active;
  std::optional<float> coef_clip;
  bool correct_scale;
  int laurel_rank;
  nn::Rope::Options local_rope;
};

// x + norm(right(left(x))).
class Laurel {
 public:
  Laurel(const Config& c, const nn::Weights& w)
      : linear_left_(w / "linear_left", c.hidden_size, c.laurel_rank),
        linear_right_(w / "linear_right", c.laurel_rank, c.hidden_size),
        post_laurel_norm_(w / "post_laurel_norm", c.hidden_size, c.rms_norm_eps) {}
  mx::array operator()(const mx::array& x) const {
    return ops::residual_add(x, post_laurel_norm_(linear_right_(linear_left_(x))));
  }

 private:
  nn::Linear linear_left_, linear_right_;
  nn::RMSNorm post_laurel_norm_;
};

class MLP {
 public:
  MLP(const Config& c, const nn::Weights& w, int layer)
      : gate_proj_(w / "gate_proj", c.hidden_size, c.widths[layer]),
        up_proj_(w / "up_proj", c.hidden_size, c.widths[layer]),
        down_proj_(w / "down_proj", c.widths[layer], c.hidden_size) {
    if (c.sparsity[layer] == 0) return;
    // That share of a normal distribution lies below so many deviations.
    deviations_ = std::sqrt(2.f) * mx::erfinv(mx::array(2 * c.sparsity[layer] - 1)).item<float>();
  }
  mx::array operator()(const mx::array& x) const {
    const auto [gate, up] = project(x, gate_proj_, up_proj_);
    return down_proj_(deviations_ ? ops::sparse_geglu(gate, up, *deviations_) : ops::geglu(gate, up, ops::Gelu::tanh));
  }

 private:
  nn::Linear gate_proj_, up_proj_, down_proj_;
  std::optional<float> deviations_;
};

class AltUp {
 public:
  AltUp(const Config& c, const nn::Weights& w)
      : active_(c.active),
        eps_(c.rms_norm_eps),
        router_norm_(ops::scale((w / "router_norm").take_array("weight", {c.hidden_size}), 1.f / c.hidden_size)),
        modality_router_(w / "modality_router", c.hidden_size, c.streams),
        prediction_coefs_(coefficients(c, w / "prediction_coefs", c.streams * c.streams)),
        correction_coefs_(coefficients(c, w / "correction_coefs", c.streams)) {
    router_norm_.eval();
    auto scale = w.take_array("correct_output_scale", {c.hidden_size});
    if (c.correct_scale) correct_output_scale_ = std::move(scale);
  }

  ops::Streams predict(const ops::Streams& streams) const {
    return ops::predict_streams(streams, ops::matmul(modalities(streams[active_]), prediction_coefs_));
  }
  ops::Streams correct(const ops::Streams& predictions, const mx::array& computed) const {
    return ops::correct_streams(predictions, computed, ops::matmul(modalities(computed), correction_coefs_), active_);
  }
  mx::array scaled(const mx::array& x) const {
    return correct_output_scale_ ? ops::multiply(x, *correct_output_scale_) : x;
  }

 private:
  static ops::Matrix coefficients(const Config& c, const nn::Weights& w, int out) {
    auto weight = mx::astype(w.take_array("weight", {out, c.streams}), mx::float32);
    if (c.coef_clip) weight = mx::clip(weight, mx::array(-*c.coef_clip), mx::array(*c.coef_clip));
    return ops::Matrix::dense(weight);
  }
  // (B, L, E) -> (B, L, N), float32
  mx::array modalities(const mx::array& x) const {
    const auto routed = modality_router_(ops::rms_norm(x, router_norm_, eps_));
    return ops::softcap(ops::backend() == ops::Backend::mlx ? mx::astype(routed, mx::float32) : routed, 1.f);
  }

  int active_;
  float eps_;
  mx::array router_norm_;  // divided by E
  nn::Linear modality_router_;
  ops::Matrix prediction_coefs_, correction_coefs_;
  std::optional<mx::array> correct_output_scale_;
};

class DecoderLayer {
 public:
  DecoderLayer(const Config& c, const nn::Weights& w, int layer)
      : active_(c.active),
        self_attn_(w / "self_attn", c.attention(layer),
                   nn::Rope(c.sharing.slides(layer) ? c.local_rope : c.rope, std::nullopt)),
        mlp_(c, w / "mlp", layer),
        altup_(c, w / "altup"),
        laurel_(c, w / "laurel"),
        layer_input_(w, c.hidden_size, c.layer_input, c.rms_norm_eps),
        input_layernorm_(w / "input_layernorm", c.hidden_size, c.rms_norm_eps),
        post_attention_layernorm_(w / "post_attention_layernorm", c.hidden_size, c.rms_norm_eps),
        pre_feedforward_layernorm_(w / "pre_feedforward_layernorm", c.hidden_size, c.rms_norm_eps),
        post_feedforward_layernorm_(w / "post_feedforward_layernorm", c.hidden_size, c.rms_norm_eps) {}

  // input: (B, L, P)
  ops::Streams operator()(const ops::Streams& streams, cache::KVCache* cache, std::optional<nn::Seen>& seen,
                          const mx::array& input) const {
    const auto predictions = altup_.predict(streams);
    const auto& x = predictions[active_];
    const auto normed = input_layernorm_(x);
    auto h = ops::residual_add(x, post_attention_layernorm_(self_attn_(normed, cache, seen)));
    h = ops::scale(ops::residual_add(h, laurel_(normed)), std::sqrt(0.5f));
    h = ops::residual_add(h, post_feedforward_layernorm_(mlp_(pre_feedforward_layernorm_(h))));
    auto corrected = altup_.correct(predictions, h);
    const auto more = layer_input_(altup_.scaled(corrected[active_]), input);
    for (size_t i = 1; i < corrected.size(); ++i) corrected[i] = ops::residual_add(corrected[i], more);
    return corrected;
  }

 private:
  int active_;
  nn::SharingAttention self_attn_;
  MLP mlp_;
  AltUp altup_;
  Laurel laurel_;
  nn::LayerInputGate layer_input_;
  nn::RMSNorm input_layernorm_, post_attention_layernorm_, pre_feedforward_layernorm_, post_feedforward_layernorm_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : Model(Config(reader.sub("text_config")), w / "model" / "language_model", w / "model") {}

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    const auto h = ops::scale(embed_tokens_(tokens), std::sqrt(float(config_.hidden_size)));
    const auto inputs = layer_inputs_(tokens, h);
    ops::Streams streams{h};
    for (const auto& projection : altup_projections_) streams.push_back(as_long_as(projection(h), h));
    std::vector<std::optional<nn::Seen>> seen(caches.size());
    for (size_t i = 0; i < layers_.size(); ++i) {
      auto* cache = i < caches.size() ? &kv(*caches[i]) : nullptr;
      streams = layers_[i](streams, cache, seen[config_.sharing.source(int(i))], inputs[i]);
    }
    auto sum = streams[0];
    for (size_t i = 0; i < altup_unembed_projections_.size(); ++i) {
      sum = ops::residual_add(sum, as_long_as(altup_unembed_projections_[i](streams[i + 1]), streams[0]));
    }
    const auto logits = embed_tokens_.as_linear(norm_(ops::scale(sum, 1.f / config_.streams)));
    return config_.softcap > 0 ? ops::softcap(logits, config_.softcap) : logits;
  }

  int num_layers() const override { return config_.sharing.own(); }
  int vocab_size() const override { return config_.vocab_size; }

  // mlx-lm ignores max_kv_size for this architecture; here it bounds the layers that do not slide anyway.
  cache::KVCaches make_cache(int max_kv_size) const override {
    return LanguageModel::make_cache(max_kv_size, config_.sharing.windows(config_.sliding_window));
  }

 private:
  Model(Config config, const nn::Weights& w, const nn::Weights& above)
      : LanguageModel(w),
        config_(std::move(config)),
        embed_tokens_(w / "embed_tokens", config_.vocab_size, config_.hidden_size),
        layer_inputs_(w, {config_.num_hidden_layers, config_.hidden_size, config_.layer_input,
                          config_.layer_input_vocab, config_.rms_norm_eps}),
        norm_(w / "norm", config_.hidden_size, config_.rms_norm_eps) {
    w.tie_output();
    for (int i = 0; i < config_.num_hidden_layers; ++i) layers_.emplace_back(config_, w / "layers" / i, i);
    for (int i = 0; i + 1 < config_.streams; ++i) {
      const int size = config_.hidden_size;
      altup_projections_.emplace_back(w / "altup_projections" / i, size, size);
      altup_unembed_projections_.emplace_back(w / "altup_unembed_projections" / i, size, size);
    }
    for (const char* other : {"vision_tower", "audio_tower", "embed_audio", "embed_vision"}) {
      (above / other).ignore("");
    }
  }

  // x with the root mean square that `like` has. Shapes: (B, L, E).
  static mx::array as_long_as(const mx::array& x, const mx::array& like) {
    const auto length = mx::sqrt(mx::mean(mx::square(like), -1, /* keepdims */ true));
    return ops::rms_norm(x, 0.f) * length;
  }

  Config config_;
  nn::Embedding embed_tokens_;
  nn::LayerInputs layer_inputs_;
  std::vector<DecoderLayer> layers_;
  std::vector<nn::Linear> altup_projections_, altup_unembed_projections_;
  nn::RMSNorm norm_;
};

}  // namespace

MLX_LM_ARCHITECTURE(gemma3n, Model, "gemma3n");

}  // namespace mlx_lm::models
