// Nemotron H: Mamba 2, attention without positions, MLPs and experts, one of them in each layer.
// Source: mlx_lm/models/nemotron_h.py of mlx-lm 0.32. Keys follow Hugging Face's NemotronHConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <cmath>
#include <optional>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/mamba2.h"
#include "mlx_lm/nn/moe.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::models {
namespace {

constexpr char kMamba = 'M', kAttention = '*', kMlp = '-', kExperts = 'E';

struct Config {
  explicit Config(const ConfigReader& c)
      : layers(pattern(c)),
        vocab_size(c.get_size("vocab_size")),
        hidden_size(c.get_size("hidden_size")),
        intermediate_size(c.get_size("intermediate_size")),
        num_attention_heads(c.get_size("num_attention_heads", 1, 65536)),
        num_key_value_heads(c.get_size("num_key_value_heads", 1, num_attention_heads)),
        head_dim(c.get_size_or("head_dim", hidden_size / num_attention_heads, 1, 65536)),
        attention_bias(c.get<bool>("attention_bias")),
        mlp_bias(c.get<bool>("mlp_bias")),
        eps(c.get<float>("layer_norm_epsilon")) {
    if (num_attention_heads % num_key_value_heads != 0) {
      fail<ConfigError>("[config] {}: num_key_value_heads: expected a divisor of {} heads, found {}", c.where(),
                        num_attention_heads, num_key_value_heads);
    }
    if (head_dim < 1 || int64_t(num_attention_heads) * head_dim > ConfigReader::kMaxSize) {
      fail<ConfigError>("[config] {}: head_dim: expected from 1 to {} for {} heads, found {}", c.where(),
                        ConfigReader::kMaxSize / num_attention_heads, num_attention_heads, head_dim);
    }
    mixer.hidden_size = hidden_size;
    mixer.heads = c.get_size("mamba_num_heads", 1, 65536);
    mixer.head_dim = c.get_size("mamba_head_dim", 1, 65536);
    mixer.state_size = c.get_size("ssm_state_size", 1, 65536);
    mixer.groups = mixer.norm_groups = c.get_size("n_groups", 1, 65536);
    mixer.taps = c.get_size("conv_kernel", 2, 4096);
    mixer.conv_bias = c.get<bool>("use_conv_bias");
    mixer.proj_bias = c.get<bool>("mamba_proj_bias");
    mixer.eps = eps;
    mixer.read_time_step_limit(c);
    mixer.check(c);
    if (layers.find(kExperts) != layers.npos) read_experts(c);
  }

  void read_experts(const ConfigReader& c) {
    if (c.has("moe_latent_size")) latent_size = c.get_size("moe_latent_size");
    experts = {.hidden_size = latent_size ? *latent_size : hidden_size,
               .intermediate_size = c.get_size("moe_intermediate_size"),
               .experts = c.get_size("n_routed_experts"),
               .active = c.get_size("num_experts_per_tok")};
    routing = {.scores = ops::Routing::Scores::sigmoid,
               .k = experts.active,
               .groups = c.get_size("n_group"),
               .groups_kept = c.get_size("topk_group"),
               // mlx-lm divides where there are several only.
               .normalize = experts.active > 1 && c.get<bool>("norm_topk_prob"),
               .epsilon = 1e-20f,
               .scale = c.get<float>("routed_scaling_factor")};
    nn::check(routing, experts.experts, c.where());
    if (c.has("n_shared_experts")) shared_size = c.get_size("moe_shared_expert_intermediate_size");
  }

  // A letter for each layer, from the list of letters, a text of them, or a list of names.
  static std::string pattern(const ConfigReader& c) {
    std::string letters;
    if (c.has("hybrid_override_pattern")) {
      const auto& value = c.json()["hybrid_override_pattern"];
      if (value.is_string()) {
        letters = value.get<std::string>();
      } else {
        for (const auto& letter : c.get<std::vector<std::string>>("hybrid_override_pattern")) {
          letters += letter.size() == 1 ? letter[0] : '?';
        }
      }
    } else {
      const char* key = c.has("layers_block_type") ? "layers_block_type" : "layer_types";
      for (const auto& type : c.get<std::vector<std::string>>(key)) {
        letters += type == "full_attention" || type == "attention"                   ? kAttention
                   : type == "linear_attention" || type == "mamba" || type == "conv" ? kMamba
                   : type == "mlp"                                                   ? kMlp
                   : type == "moe"                                                   ? kExperts
                                                                                     : '?';
      }
    }
    if (letters.empty() || letters.size() > 4096 || letters.find_first_not_of("M*-E") != letters.npos) {
      fail<ConfigError>("[config] {}: hybrid_override_pattern: expected up to 4096 layers M, *, - or E, found '{}'",
                        c.where(), letters.substr(0, 60));
    }
    return letters;
  }

  nn::GroupedAttention::Options attention() const {
    nn::GroupedAttention::Options o(hidden_size, num_attention_heads, num_key_value_heads, head_dim);
    o.qkv_bias = o.out_bias = attention_bias;
    return o;
  }

  std::string layers;
  int vocab_size, hidden_size, intermediate_size, num_attention_heads, num_key_value_heads, head_dim;
  bool attention_bias, mlp_bias;
  float eps;
  nn::Mamba2Mixer::Options mixer;
  nn::ExpertShape experts{};
  ops::Routing routing;
  std::optional<int> latent_size, shared_size;
};

// down(max(up(x), 0)^2)
class MLP {
 public:
  MLP(const Config& c, const nn::Weights& w, int size)
      : up_proj_(w / "up_proj", c.hidden_size, size, c.mlp_bias),
        down_proj_(w / "down_proj", size, c.hidden_size, c.mlp_bias) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x) const {
    return down_proj_(ops::activate(ops::ExpertActivation::relu2, nullptr, up_proj_(x)));
  }

 private:
  nn::Linear up_proj_, down_proj_;
};

class MoE {
 public:
  MoE(const Config& c, const nn::Weights& w)
      : gate_(w / "gate", c.hidden_size, c.experts.experts, c.routing, /* bias */ false,
              (w / "gate").take_vector("e_score_correction_bias", c.experts.experts)),
        switch_mlp_(experts(c, w)) {
    if (c.shared_size) shared_experts_.emplace(c, w / "shared_experts", *c.shared_size);
    if (!c.latent_size) return;
    fc1_latent_proj_.emplace(w / "fc1_latent_proj", c.hidden_size, *c.latent_size, c.mlp_bias);
    fc2_latent_proj_.emplace(w / "fc2_latent_proj", *c.latent_size, c.hidden_size, c.mlp_bias);
  }

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x) const {
    const auto [indices, weights] = gate_(x);
    auto y = switch_mlp_(fc1_latent_proj_ ? (*fc1_latent_proj_)(x) : x, indices, weights);
    if (fc2_latent_proj_) y = (*fc2_latent_proj_)(y);
    return shared_experts_ ? ops::residual_add((*shared_experts_)(x), y) : y;
  }

 private:
  static nn::SwitchMLP experts(const Config& c, const nn::Weights& w) {
    nn::rename_experts(w, c.experts.experts, {{"up_proj", "fc1"}, {"down_proj", "fc2"}});
    return {w / "switch_mlp", c.experts, ops::ExpertActivation::relu2};
  }

  nn::Router gate_;
  nn::SwitchMLP switch_mlp_;
  std::optional<MLP> shared_experts_;
  std::optional<nn::Linear> fc1_latent_proj_, fc2_latent_proj_;  // the experts work in a narrower space
};

class Block {
 public:
  Block(const Config& c, const nn::Weights& w, char kind) : norm_(w / "norm", c.hidden_size, c.eps) {
    const auto mixer = w / "mixer";
    if (kind == kMamba) mamba_.emplace(mixer, c.mixer);
    if (kind == kAttention) attention_.emplace(mixer, c.attention());
    if (kind == kMlp) mlp_.emplace(c, mixer, c.intermediate_size);
    if (kind == kExperts) moe_.emplace(c, mixer);
  }

  bool remembers() const { return mamba_ || attention_; }
  // (B, L, E) -> (B, L, E). cache: null for a layer that does not remember.
  mx::array operator()(const mx::array& x, cache::Cache* cache) const {
    const auto in = norm_(x);
    return ops::residual_add(x, mamba_       ? (*mamba_)(in, states(*cache))
                                : attention_ ? (*attention_)(in, kv(*cache))
                                : mlp_       ? (*mlp_)(in)
                                             : (*moe_)(in));
  }

 private:
  nn::RMSNorm norm_;
  std::optional<nn::Mamba2Mixer> mamba_;
  std::optional<nn::GroupedAttention> attention_;
  std::optional<MLP> mlp_;
  std::optional<MoE> moe_;
};

class NemotronHModel {
 public:
  NemotronHModel(const Config& c, const nn::Weights& w)
      : embeddings_(w / "embeddings", c.vocab_size, c.hidden_size), norm_f_(w / "norm_f", c.hidden_size, c.eps) {
    for (size_t i = 0; i < c.layers.size(); ++i) layers_.emplace_back(c, w / "layers" / int(i), c.layers[i]);
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = embeddings_(tokens);
    auto cache = caches.begin();
    for (const auto& layer : layers_) h = layer(h, layer.remembers() ? (cache++)->get() : nullptr);
    return norm_f_(h);
  }

  const nn::Embedding& embeddings() const { return embeddings_; }

 private:
  nn::Embedding embeddings_;
  std::vector<Block> layers_;
  nn::RMSNorm norm_f_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        backbone_(config_, w / "backbone"),
        lm_head_(w, /* tied */ false, config_.hidden_size, config_.vocab_size) {
    (w / "mtp").ignore("");
  }

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(backbone_(tokens, caches), backbone_.embeddings());
  }

  int num_layers() const override { return int(config_.layers.size()); }
  int vocab_size() const override { return config_.vocab_size; }

  // One for each layer that remembers. mlx-lm ignores max_kv_size for this architecture; here it bounds attention.
  cache::KVCaches make_cache(int max_kv_size) const override {
    auto all = LanguageModel::make_cache(max_kv_size);
    cache::KVCaches caches;
    for (size_t i = 0; i < all.size(); ++i) {
      if (config_.layers[i] == kMamba) caches.push_back(std::make_unique<cache::StateCache>(2));
      if (config_.layers[i] == kAttention) caches.push_back(std::move(all[i]));
    }
    return caches;
  }

 private:
  Config config_;
  NemotronHModel backbone_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(nemotron_h, Model, "nemotron_h");

}  // namespace mlx_lm::models
