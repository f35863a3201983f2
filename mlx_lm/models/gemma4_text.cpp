// Gemma 4, text: sliding and global layers with head sizes of their own, norms also over the values, layers that share
// the keys and values of earlier ones, an input of each token for each layer, and a mixture of experts beside the MLP
// in the larger ones.
// Source: mlx_lm/models/gemma4_text.py of mlx-lm 0.32. Keys follow Hugging Face's Gemma4TextConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, N layers, P layer input, V vocabulary.

#include <cmath>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/gemma.h"
#include "mlx_lm/nn/kv_sharing.h"
#include "mlx_lm/nn/layer_inputs.h"
#include "mlx_lm/nn/moe.h"
#include "mlx_lm/nn/transformer.h"
#include "mlx_lm/ops/elementwise.h"

namespace mlx_lm::models {
namespace {

ConfigReader complete(const ConfigReader& c) {
  return c.with_defaults({{"hidden_size", 1536},
                          {"num_hidden_layers", 35},
                          {"intermediate_size", 6144},
                          {"num_attention_heads", 8},
                          {"head_dim", 256},
                          {"rms_norm_eps", 1e-6},
                          {"vocab_size", 262144},
                          {"num_key_value_heads", 1},
                          {"max_position_embeddings", 131072}});
}

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(complete(c), {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        sharing(c, num_hidden_layers, c.get_size_or("num_kv_shared_layers", 20, 0),
                c.get_size_or("sliding_window_pattern", 5)),
        sliding_window(c.get_size_or("sliding_window", 512)),
        double_wide_mlp(c.get<bool>("use_double_wide_mlp", true)),
        layer_input(c.get_size_or("hidden_size_per_layer_input", 256, 0, 65536)),
        layer_input_vocab(c.get_size_or("vocab_size_per_layer_input", 262144)),
        moe(c.get<bool>("enable_moe_block", false)) {
    const bool off = c.json().contains("final_logit_softcapping") && !c.has("final_logit_softcapping");
    if (!off) softcap = c.get_positive("final_logit_softcapping", 30.f);
    if (int64_t(layer_input) * num_hidden_layers > ConfigReader::kMaxSize) {
      fail<ConfigError>("[config] {}: hidden_size_per_layer_input: expected at most {} for {} layers, found {}",
                        c.where(), ConfigReader::kMaxSize / num_hidden_layers, num_hidden_layers, layer_input);
    }
    if (!moe) return;
    experts = {hidden_size, c.get_size("moe_intermediate_size"), c.get_size("num_experts", 1, 65536),
               c.get_size("top_k_experts", 1, 65536)};
    routing.scores = ops::Routing::Scores::chosen;
    routing.k = experts.active;
    nn::check(routing, experts.experts, c.where());
  }

  nn::SharingAttention::Options attention(const ConfigReader& c, bool slides) const {
    nn::SharingAttention::Options o{hidden_size, num_attention_heads, num_key_value_heads, head_dim, rms_norm_eps};
    if (slides) {
      o.window = sliding_window;
      return o;
    }
    const int global_dim = c.get_size_or("global_head_dim", 512, 0, 65536);
    if (global_dim > 0) o.head_dim = global_dim;
    o.values_are_keys = c.get<bool>("attention_k_eq_v", false);
    if (o.values_are_keys) o.kv_heads = c.get_size_or("num_global_key_value_heads", o.kv_heads, 1, o.heads);
    if (o.heads % o.kv_heads != 0 || int64_t(o.heads) * o.head_dim > ConfigReader::kMaxSize) {
      fail<ConfigError>("[config] {}: expected {} heads in groups and of at most {}, found {} of {} for keys",
                        c.where(), o.heads, ConfigReader::kMaxSize / o.heads, o.kv_heads, o.head_dim);
    }
    return o;
  }

  nn::Rope rotary(const ConfigReader& c, bool slides, int dims) const {
    auto options = rope;
    options.dims = dims;
    std::optional<ConfigReader> scaling;
    const char* name = slides ? "sliding_attention" : "full_attention";
    if (!c.has("rope_parameters")) {
      options.base = slides ? 10000.f : 1000000.f;
      const nlohmann::json partial = {{"rope_type", "proportional"}, {"partial_rotary_factor", 0.25}};
      if (!slides) scaling.emplace(partial, c.where());
    } else if (const auto all = c.sub("rope_parameters"); all.has(name)) {
      scaling = all.sub(name);
      options.base = scaling->get<float>("rope_theta", 10000.f);
    }
    return nn::Rope(options, scaling);
  }

  nn::KVSharing sharing;
  int sliding_window;
  bool double_wide_mlp;
  int layer_input;  // P; 0: none
  int layer_input_vocab;
  float softcap = 0;  // 0: none
  bool moe;
  nn::ExpertShape experts{};
  ops::Routing routing;
};

// The mixture beside the MLP. Takes router, experts, and the norms around them.
class Mixture {
 public:
  Mixture(const Config& c, const nn::Weights& w)
      : eps_(c.rms_norm_eps),
        scale_(scaled((w / "router").take_array("scale", {c.hidden_size}), c.hidden_size)),
        router_(w / "router" / "proj", c.hidden_size, c.experts.experts, c.routing, /* bias */ false, std::nullopt,
                (w / "router").take_array("per_expert_scale", {c.experts.experts})),
        experts_(stacked(w / "experts", c.experts), c.experts, ops::ExpertActivation::geglu_tanh),
        after_mlp_(w / "post_feedforward_layernorm_1", c.hidden_size, c.rms_norm_eps),
        before_(w / "pre_feedforward_layernorm_2", c.hidden_size, c.rms_norm_eps),
        after_(w / "post_feedforward_layernorm_2", c.hidden_size, c.rms_norm_eps) {}

  // What the MLP and the experts make of h. Shapes: h, mlp (B, L, E) -> (B, L, E).
  mx::array operator()(const mx::array& h, const mx::array& mlp) const {
    const auto [indices, weights] = router_(ops::rms_norm(h, scale_, eps_));
    return ops::residual_add(after_mlp_(mlp), after_(experts_(before_(h), indices, weights)));
  }

 private:
  static mx::array scaled(mx::array scale, int hidden_size) {
    scale = scale * mx::array(1.f / std::sqrt(float(hidden_size)), scale.dtype());
    scale.eval();
    return scale;
  }
  // Published checkpoints have one tensor for gates and ups, and no word "weight".
  static nn::Weights stacked(const nn::Weights& w, const nn::ExpertShape& s) {
    const auto half = [&](const char* name, int first) -> nn::Weights::Part {
      const mx::Shape shape{s.experts, s.intermediate_size, s.hidden_size};
      return {name, shape, [=](const std::vector<mx::array>& from) {
                return mx::slice(from[0], {0, first, 0}, {shape[0], first + shape[1], shape[2]});
              }};
    };
    if (const auto shape = w.shape_of("gate_up_proj")) {
      if (*shape != mx::Shape{s.experts, 2 * s.intermediate_size, s.hidden_size}) {
        fail<WeightError>("[weights] experts.gate_up_proj: expected shape ({}, {}, {}), found another", s.experts,
                          2 * s.intermediate_size, s.hidden_size);
      }
      w.rewrite({"gate_up_proj"},
                {half("switch_glu.gate_proj.weight", 0), half("switch_glu.up_proj.weight", s.intermediate_size)});
      w.rename("down_proj", "switch_glu.down_proj.weight");
    }
    return w / "switch_glu";
  }

  float eps_;
  mx::array scale_;
  nn::Router router_;
  nn::SwitchGLU experts_;
  nn::RMSNorm after_mlp_, before_, after_;
};

class DecoderLayer {
 public:
  DecoderLayer(const Config& c, const nn::Weights& w, const nn::SharingAttention::Options& attention,
               const nn::Rope& rope)
      : self_attn_(w / "self_attn", attention, rope),
        mlp_(w / "mlp", c.hidden_size, c.intermediate_size * (attention.shares && c.double_wide_mlp ? 2 : 1)),
        input_layernorm_(w / "input_layernorm", c.hidden_size, c.rms_norm_eps),
        post_attention_layernorm_(w / "post_attention_layernorm", c.hidden_size, c.rms_norm_eps),
        pre_feedforward_layernorm_(w / "pre_feedforward_layernorm", c.hidden_size, c.rms_norm_eps),
        post_feedforward_layernorm_(w / "post_feedforward_layernorm", c.hidden_size, c.rms_norm_eps),
        layer_scalar_(mx::astype(w.take_array("layer_scalar", {1}), mx::float32).item<float>()) {
    if (c.moe) mixture_.emplace(c, w);
    if (c.layer_input > 0) layer_input_.emplace(w, c.hidden_size, c.layer_input, c.rms_norm_eps);
  }

  // (B, L, E) -> (B, L, E). input: (B, L, P), if the model has such.
  mx::array operator()(const mx::array& x, cache::KVCache* cache, std::optional<nn::Seen>& seen,
                       const mx::array* input) const {
    auto h = ops::residual_add(x, post_attention_layernorm_(self_attn_(input_layernorm_(x), cache, seen)));
    auto y = mlp_(pre_feedforward_layernorm_(h));
    if (mixture_) y = (*mixture_)(h, y);
    h = ops::residual_add(h, post_feedforward_layernorm_(y));
    if (layer_input_) h = ops::residual_add(h, (*layer_input_)(h, *input));
    return ops::scale(h, layer_scalar_);
  }

 private:
  nn::SharingAttention self_attn_;
  nn::GegluMLP mlp_;
  nn::RMSNorm input_layernorm_, post_attention_layernorm_, pre_feedforward_layernorm_, post_feedforward_layernorm_;
  float layer_scalar_;
  std::optional<Mixture> mixture_;
  std::optional<nn::LayerInputGate> layer_input_;
};

class Gemma4TextModel {
 public:
  Gemma4TextModel(const Config& c, const ConfigReader& reader, const nn::Weights& w)
      : embed_scale_(std::sqrt(float(c.hidden_size))),
        sharing_(c.sharing),
        embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.rms_norm_eps) {
    for (int i = 0; i < c.num_hidden_layers; ++i) {
      const bool slides = c.sharing.slides(i);
      auto attention = c.attention(reader, slides);
      attention.shares = c.sharing.shares(i);
      layers_.emplace_back(c, w / "layers" / i, attention, c.rotary(reader, slides, attention.head_dim));
    }
    if (c.layer_input == 0) return;
    layer_inputs_.emplace(w, nn::LayerInputs::Options{c.num_hidden_layers, c.hidden_size, c.layer_input,
                                                      c.layer_input_vocab, c.rms_norm_eps});
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = ops::scale(embed_tokens_(tokens), embed_scale_);
    std::vector<mx::array> inputs;
    if (layer_inputs_) inputs = (*layer_inputs_)(tokens, h);
    std::vector<std::optional<nn::Seen>> seen(caches.size());
    for (size_t i = 0; i < layers_.size(); ++i) {
      auto* cache = i < caches.size() ? &kv(*caches[i]) : nullptr;
      h = layers_[i](h, cache, seen[sharing_.source(int(i))], inputs.empty() ? nullptr : &inputs[i]);
    }
    return norm_(h);
  }

  const nn::Embedding& embed_tokens() const { return embed_tokens_; }

 private:
  float embed_scale_;
  nn::KVSharing sharing_;
  nn::Embedding embed_tokens_;
  std::vector<DecoderLayer> layers_;
  nn::RMSNorm norm_;
  std::optional<nn::LayerInputs> layer_inputs_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        model_(config_, reader, w / "model"),
        lm_head_(w, config_.tie_word_embeddings, config_.hidden_size, config_.vocab_size) {
    for (const char* unused : {"rotary_emb.inv_freq", "input_max", "input_min", "output_max", "output_min"}) {
      w.ignore(unused);
    }
  }

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    const auto logits = lm_head_(model_(tokens, caches), model_.embed_tokens());
    return config_.softcap > 0 ? ops::softcap(logits, config_.softcap) : logits;
  }

  int num_layers() const override { return config_.sharing.own(); }
  int vocab_size() const override { return config_.vocab_size; }

  // mlx-lm ignores max_kv_size for this architecture; here it bounds the layers that do not slide anyway.
  cache::KVCaches make_cache(int max_kv_size) const override {
    return LanguageModel::make_cache(max_kv_size, config_.sharing.windows(config_.sliding_window));
  }

 private:
  Config config_;
  Gemma4TextModel model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(gemma4_text, Model, "gemma4_text");

}  // namespace mlx_lm::models
