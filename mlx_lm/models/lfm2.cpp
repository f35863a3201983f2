// LFM 2: gated short convolutions, and grouped-query attention in some layers; SwiGLU or experts; tied.
// Source: mlx_lm/models/lfm2.py and lfm2_moe.py of mlx-lm 0.32. Keys follow Hugging Face's configurations.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <algorithm>
#include <cmath>
#include <optional>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/moe.h"
#include "mlx_lm/nn/short_convolution.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::models {
namespace {

struct Config {
  explicit Config(const ConfigReader& c)
      : hidden_size(c.get_size("hidden_size", 1, 1 << 24)),
        num_hidden_layers(c.get_size("num_hidden_layers", 1, 4096)),
        num_attention_heads(c.get_size("num_attention_heads", 1, std::min(hidden_size, 65536))),
        num_key_value_heads(c.get_size_or("num_key_value_heads", num_attention_heads, 1, num_attention_heads)),
        head_dim(hidden_size / num_attention_heads),
        vocab_size(c.get_size("vocab_size")),
        has_experts(c.has("model_type") && c.get<std::string>("model_type") == "lfm2_moe"),
        feed_forward(has_experts ? c.get_size("intermediate_size") : feed_forward_size(c)),
        conv_taps(c.get_size("conv_L_cache", 2, 4096)),
        conv_bias(c.get<bool>("conv_bias")),
        norm_eps(c.get<float>("norm_eps")),
        attends(num_hidden_layers, false) {
    if (num_attention_heads % num_key_value_heads != 0) {
      fail<ConfigError>("[config] {}: num_key_value_heads: expected a divisor of {} heads, found {}", c.where(),
                        num_attention_heads, num_key_value_heads);
    }
    if (has_experts) read_experts(c);
    if (!has_experts && c.get_size("block_dim") != hidden_size) {
      fail<ConfigError>("[config] {}: block_dim: expected {}, as hidden_size is, found {}", c.where(), hidden_size,
                        c.get_size("block_dim"));
    }
    rope.dims = head_dim;
    const auto parameters = c.has("rope_parameters") ? std::optional(c.sub("rope_parameters")) : std::nullopt;
    rope.base = parameters && parameters->has("rope_theta") ? parameters->get<float>("rope_theta")
                                                            : c.get<float>("rope_theta", 1000000.f);
    if (c.has("full_attn_idxs")) {
      for (int i : c.get<std::vector<int>>("full_attn_idxs")) {
        if (i < 0 || i >= num_hidden_layers) {
          fail<ConfigError>("[config] {}: full_attn_idxs: expected layers below {}, found {}", c.where(),
                            num_hidden_layers, i);
        }
        attends[i] = true;
      }
      return;
    }
    const auto types = c.get<std::vector<std::string>>("layer_types");
    if (int(types.size()) != num_hidden_layers) {
      fail<ConfigError>("[config] {}: layer_types: expected {} entries, found {}", c.where(), num_hidden_layers,
                        types.size());
    }
    for (int i = 0; i < num_hidden_layers; ++i) attends[i] = types[i] == "full_attention";
  }

  void read_experts(const ConfigReader& c) {
    experts = {.hidden_size = hidden_size,
               .intermediate_size = c.get_size("moe_intermediate_size"),
               .experts = c.get_size("num_experts"),
               .active = c.get_size("num_experts_per_tok")};
    routing = {.scores = ops::Routing::Scores::sigmoid,
               .k = experts.active,
               .normalize = c.get<bool>("norm_topk_prob"),
               .epsilon = 1e-6f,
               .scale = c.get<float>("routed_scaling_factor", 1.f)};
    nn::check(routing, experts.experts, c.where());
    expert_bias = c.get<bool>("use_expert_bias");
    dense_layers = c.get_size("num_dense_layers", 0);
  }

  // Cut to two thirds, times a factor, and rounded up, where the configuration asks for it.
  static int feed_forward_size(const ConfigReader& c) {
    double size = c.has("block_ff_dim") ? c.get_size("block_ff_dim") : c.get_size("intermediate_size");
    if (!c.get<bool>("block_auto_adjust_ff_dim")) return int(size);
    const int multiple = c.get_size("block_multiple_of");
    size = std::floor(2 * size / 3);
    if (const auto factor = c.find<float>("block_ffn_dim_multiplier")) size = std::floor(double(*factor) * size);
    size = std::ceil(size / multiple) * multiple;
    if (!(size >= 1 && size <= ConfigReader::kMaxSize)) {
      fail<ConfigError>("[config] {}: block_ffn_dim_multiplier: expected a feed-forward size from 1 to {}, found {}",
                        c.where(), ConfigReader::kMaxSize, size);
    }
    return int(size);
  }

  int hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim, vocab_size;
  bool has_experts;
  int feed_forward, conv_taps;
  bool conv_bias;
  float norm_eps;
  std::vector<bool> attends;  // of each layer
  nn::ExpertShape experts{};
  ops::Routing routing;
  bool expert_bias = false;
  int dense_layers = 0;  // the first ones, where there are experts
  nn::Rope::Options rope;
};

nn::GroupedAttention attention(const Config& c, const nn::Weights& w) {
  w.rename("q_layernorm", "q_norm");
  w.rename("k_layernorm", "k_norm");
  nn::GroupedAttention::Options o(c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim);
  o.rope.emplace(c.rope, std::nullopt);
  o.qk_norm = nn::HeadNorm::Kind::head;
  o.eps = c.norm_eps;
  o.out = "out_proj";
  return {w, o};
}

class ShortConv {
 public:
  ShortConv(const Config& c, const nn::Weights& w)
      : size_(c.hidden_size),
        in_proj_(w / "in_proj", size_, 3 * size_, c.conv_bias),
        conv_(w / "conv", size_, c.conv_taps, c.conv_bias, /* silu */ false),
        out_proj_(w / "out_proj", size_, size_, c.conv_bias) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::Cache& cache) const {
    auto& state = states(cache);
    const auto all = in_proj_(x);  // (B, L, 3 E): the gate of the input, that of the result, the input
    const ops::ConvolutionGates gates{{all, 0, size_}, {all, size_, size_}};
    const auto y = conv_({{all, 2 * size_, size_}}, state, gates);
    state.advance(x.shape(1));
    return out_proj_(y);
  }

 private:
  int size_;
  nn::Linear in_proj_;
  nn::ShortConvolution conv_;
  nn::Linear out_proj_;
};

nn::FeedForward feed_forward(const Config& c, const nn::Weights& w, int layer) {
  for (const auto& [old, name] : {std::pair("w1", "gate_proj"), {"w3", "up_proj"}, {"w2", "down_proj"}}) {
    w.rename(old, name);
  }
  if (!c.has_experts || layer < c.dense_layers) return nn::MLP(w, c.hidden_size, c.feed_forward);
  nn::rename_experts(w, c.experts.experts, {{"w1", "gate_proj"}, {"w3", "up_proj"}, {"w2", "down_proj"}});
  nn::rename_experts(w, c.experts.experts);
  auto bias = c.expert_bias ? std::optional(w.take_vector("expert_bias", c.experts.experts)) : std::nullopt;
  return nn::MoE(nn::Router(w / "gate", c.hidden_size, c.experts.experts, c.routing, /* bias */ false, std::move(bias)),
                 nn::SwitchGLU(w / "switch_mlp", c.experts));
}

class Layer {
 public:
  Layer(const Config& c, const nn::Weights& w, int layer)
      : operator_norm_(w / "operator_norm", c.hidden_size, c.norm_eps),
        ffn_norm_(w / "ffn_norm", c.hidden_size, c.norm_eps),
        feed_forward_(feed_forward(c, w / "feed_forward", layer)) {
    if (c.attends[layer]) {
      self_attn_.emplace(attention(c, w / "self_attn"));
    } else {
      conv_.emplace(c, w / "conv");
    }
  }

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::Cache& cache) const {
    const auto norm = operator_norm_(x);
    const auto h = ops::residual_add(x, self_attn_ ? (*self_attn_)(norm, kv(cache)) : (*conv_)(norm, cache));
    return ops::residual_add(h, feed_forward_(ffn_norm_(h)));
  }

 private:
  nn::RMSNorm operator_norm_, ffn_norm_;
  std::optional<nn::GroupedAttention> self_attn_;
  std::optional<ShortConv> conv_;
  nn::FeedForward feed_forward_;
};

class Lfm2Model {
 public:
  Lfm2Model(const Config& c, const nn::Weights& w)
      : embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        embedding_norm_(w / "embedding_norm", c.hidden_size, c.norm_eps) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers_.emplace_back(c, w / "layers" / i, i);
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = embed_tokens_(tokens);
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, *caches[i]);
    return embedding_norm_(h);
  }

  const nn::Embedding& embed_tokens() const { return embed_tokens_; }

 private:
  nn::Embedding embed_tokens_;
  nn::RMSNorm embedding_norm_;  // of the result, for all its name
  std::vector<Layer> layers_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        model_(config_, w / "model"),
        lm_head_(w, /* tied */ true, config_.hidden_size, config_.vocab_size) {}

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
      if (!config_.attends[i]) caches[i] = std::make_unique<cache::StateCache>(1);
    }
    return caches;
  }

 private:
  Config config_;
  Lfm2Model model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(lfm2, Model, "lfm2", "lfm2_moe");

}  // namespace mlx_lm::models
