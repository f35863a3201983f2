// Granite 4: Mamba 2 and attention, with experts or without.
// Source: mlx_lm/models/granitemoehybrid.py of mlx-lm 0.32. Keys follow Hugging Face's GraniteMoeHybridConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <algorithm>
#include <optional>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/fused_experts.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/mamba2.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        layer_types(c.get<std::vector<std::string>>("layer_types")),
        attention_bias(c.get<bool>("attention_bias")),
        mlp_bias(c.get<bool>("mlp_bias", false)),
        has_positions(c.get<std::string>("position_embedding_type", "rope") != "nope"),
        embedding_multiplier(c.get<float>("embedding_multiplier")),
        attention_multiplier(c.get<float>("attention_multiplier")),
        residual_multiplier(c.get<float>("residual_multiplier")),
        logits_scaling(c.get<float>("logits_scaling")) {
    if (int(layer_types.size()) != num_hidden_layers) {
      fail<ConfigError>("[config] {}: layer_types: expected {} entries, found {}", c.where(), num_hidden_layers,
                        layer_types.size());
    }
    for (const auto& type : layer_types) {
      if (type != "mamba" && type != "attention") {
        fail<ConfigError>("[config] {}: layer_types: expected mamba or attention, found '{}'", c.where(),
                          type.substr(0, 60));
      }
    }
    if (!(residual_multiplier > 0) || !(logits_scaling > 0)) {
      fail<ConfigError>("[config] {}: residual_multiplier, logits_scaling: expected more than 0, found {} and {}",
                        c.where(), residual_multiplier, logits_scaling);
    }
    head_dim = hidden_size / num_attention_heads;
    rope.dims = head_dim;
    if (std::find(layer_types.begin(), layer_types.end(), "mamba") != layer_types.end()) read_mixer(c);
    if (c.get_size_or("num_local_experts", 0, 0) > 0) read_experts(c);
  }

  void read_mixer(const ConfigReader& c) {
    mixer.hidden_size = hidden_size;
    mixer.heads = c.get_size("mamba_n_heads", 1, 65536);
    mixer.head_dim = c.get_size("mamba_d_head", 1, 65536);
    mixer.state_size = c.get_size("mamba_d_state", 1, 65536);
    mixer.groups = c.get_size("mamba_n_groups", 1, 65536);
    mixer.taps = c.get_size("mamba_d_conv", 2, 4096);
    mixer.conv_bias = c.get<bool>("mamba_conv_bias");
    mixer.proj_bias = c.get<bool>("mamba_proj_bias");
    mixer.time_step_low = 0.001f, mixer.time_step_high = 100.f;
    mixer.eps = rms_norm_eps;
    mixer.read_time_step_limit(c);
    mixer.check(c);
  }

  void read_experts(const ConfigReader& c) {
    experts = {.hidden_size = hidden_size,
               .intermediate_size = intermediate_size,
               .experts = c.get_size("num_local_experts"),
               .active = c.get_size("num_experts_per_tok")};
    routing = {.scores = ops::Routing::Scores::chosen, .k = experts.active};
    nn::check(routing, experts.experts, c.where());
    shared_size = c.get_size("shared_intermediate_size");
  }

  // The residual stream is kept divided by its multiplier, which spares a multiplication in every block: norms do not
  // see a factor of their input, given an eps to match.
  float stream_eps() const { return rms_norm_eps / (residual_multiplier * residual_multiplier); }

  nn::GroupedAttention::Options attention() const {
    nn::GroupedAttention::Options o(hidden_size, num_attention_heads, num_key_value_heads, head_dim);
    if (has_positions) o.rope.emplace(rope, std::nullopt);
    o.scale = attention_multiplier;
    o.qkv_bias = o.out_bias = attention_bias;
    return o;
  }

  std::vector<std::string> layer_types;
  bool attention_bias, mlp_bias, has_positions;
  float embedding_multiplier, attention_multiplier, residual_multiplier, logits_scaling;
  nn::Mamba2Mixer::Options mixer;
  nn::ExpertShape experts{};
  ops::Routing routing;
  int shared_size = 0;  // of the expert that every token goes to
};

// w: the layer's. Publishers fuse gates and ups, of a dense MLP as well, which they call the shared one.
nn::FeedForward feed_forward(const Config& c, const nn::Weights& w) {
  if (c.experts.experts == 0) {
    const int size = c.intermediate_size;
    w.split("shared_mlp.input_linear", {{"mlp.gate_proj", size}, {"mlp.up_proj", size}});
    w.rename("shared_mlp.output_linear", "mlp.down_proj");
    return nn::MLP(w / "mlp", c.hidden_size, size, c.mlp_bias);
  }
  const auto shared = w / "shared_mlp", sparse = w / "block_sparse_moe";
  shared.split("input_linear", {{"gate_proj", c.shared_size}, {"up_proj", c.shared_size}});
  shared.rename("output_linear", "down_proj");
  nn::split_experts(sparse, c.experts, "input_linear.weight", "output_linear.weight");
  return nn::MoE(nn::Router(sparse / "router.layer", c.hidden_size, c.experts.experts, c.routing),
                 nn::SwitchGLU(sparse / "switch_mlp", c.experts), nn::MLP(shared, c.hidden_size, c.shared_size));
}

class Layer {
 public:
  Layer(const Config& c, const nn::Weights& w, int layer)
      : feed_forward_(feed_forward(c, w)),
        input_layernorm_(w / "input_layernorm", c.hidden_size, c.stream_eps()),
        post_attention_layernorm_(w / "post_attention_layernorm", c.hidden_size, c.stream_eps()) {
    if (c.layer_types[layer] == "mamba") {
      mamba_.emplace(w / "mamba", c.mixer);
    } else {
      self_attn_.emplace(w / "self_attn", c.attention());
    }
  }

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::Cache& cache) const {
    const auto in = input_layernorm_(x);
    const auto h = ops::residual_add(x, mamba_ ? (*mamba_)(in, states(cache)) : (*self_attn_)(in, kv(cache)));
    return ops::residual_add(h, feed_forward_(post_attention_layernorm_(h)));
  }

 private:
  std::optional<nn::Mamba2Mixer> mamba_;
  std::optional<nn::GroupedAttention> self_attn_;
  nn::FeedForward feed_forward_;
  nn::RMSNorm input_layernorm_, post_attention_layernorm_;
};

class GraniteMoeHybridModel {
 public:
  GraniteMoeHybridModel(const Config& c, const nn::Weights& w)
      : embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.stream_eps()),
        multiplier_(c.embedding_multiplier / c.residual_multiplier),
        output_multiplier_(1 / c.logits_scaling) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers_.emplace_back(c, w / "layers" / i, i);
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = embed_tokens_(tokens);
    h = h * mx::array(multiplier_, h.dtype());
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, *caches[i]);
    h = norm_(h);
    return h * mx::array(output_multiplier_, h.dtype());
  }

  const nn::Embedding& embed_tokens() const { return embed_tokens_; }

 private:
  nn::Embedding embed_tokens_;
  nn::RMSNorm norm_;
  float multiplier_, output_multiplier_;
  std::vector<Layer> layers_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        model_(config_, w / "model"),
        lm_head_(w, config_.tie_word_embeddings, config_.hidden_size, config_.vocab_size) {}

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(model_(tokens, caches), model_.embed_tokens());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

  // mlx-lm ignores max_kv_size for this architecture; here it bounds the layers that attend.
  cache::KVCaches make_cache(int max_kv_size) const override {
    auto caches = LanguageModel::make_cache(max_kv_size);
    for (int i = 0; i < num_layers(); ++i) {
      if (config_.layer_types[i] == "mamba") caches[i] = std::make_unique<cache::StateCache>(2);
    }
    return caches;
  }

 private:
  Config config_;
  GraniteMoeHybridModel model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(granitemoehybrid, Model, "granitemoehybrid");

}  // namespace mlx_lm::models
