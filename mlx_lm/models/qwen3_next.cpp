// Qwen 3 Next and Qwen 3.5: gated delta nets, and gated attention in every few layers.
// Source: mlx_lm/models/qwen3_next.py, qwen3_5.py and qwen3_5_moe.py of mlx-lm 0.32. Keys follow Hugging Face's
// configurations; of picture models only the text part is read.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <cmath>
#include <optional>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/short_convolution.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::models {
namespace {

bool is_next(const ConfigReader& c) { return c.get<std::string>("model_type") == "qwen3_next"; }

// The text part of a configuration, with the values that mlx-lm takes where Qwen 3.5's say nothing.
ConfigReader text_of(const ConfigReader& c) {
  if (is_next(c)) return c;
  const auto text = c.has("text_config") ? c.sub("text_config") : c;
  auto all = nlohmann::json::object({{"hidden_size", 4096},
                                     {"intermediate_size", 14336},
                                     {"num_hidden_layers", 32},
                                     {"num_attention_heads", 32},
                                     {"rms_norm_eps", 1e-6},
                                     {"vocab_size", 151936},
                                     {"num_key_value_heads", 8},
                                     {"max_position_embeddings", 131072},
                                     {"linear_num_value_heads", 64},
                                     {"linear_num_key_heads", 16},
                                     {"linear_key_head_dim", 192},
                                     {"linear_value_head_dim", 128},
                                     {"linear_conv_kernel_dim", 4}});
  all.update(text.json());
  return {std::move(all), text.where()};
}

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c, bool next)
      : DecoderConfig(c, {.rope_theta = next ? std::nullopt : std::optional(100000.f), .tie_word_embeddings = false}),
        is_next(next),
        attention_bias(c.get<bool>("attention_bias", false)),
        interval(c.get_size_or("full_attention_interval", 4)),
        value_heads(c.get_size("linear_num_value_heads", 1, 65536)),
        key_heads(c.get_size("linear_num_key_heads", 1, value_heads)),
        key_dim(c.get_size("linear_key_head_dim", 1, 4096)),
        value_dim(c.get_size("linear_value_head_dim", 1, 4096)),
        taps(c.get_size("linear_conv_kernel_dim", 2, 4096)) {
    if (value_heads % key_heads != 0) {
      fail<ConfigError>("[config] {}: linear_num_key_heads: expected a divisor of {} value heads, found {}", c.where(),
                        value_heads, key_heads);
    }
    if (int64_t(value_heads) * (key_dim + value_dim) > ConfigReader::kMaxSize / 4) {
      fail<ConfigError>("[config] {}: linear_num_value_heads: expected fewer heads of {} and {}, found {}", c.where(),
                        key_dim, value_dim, value_heads);
    }
    const auto& rotary = next || !rope_scaling ? c : *rope_scaling;
    const float share =
        next ? rotary.get<float>("partial_rotary_factor") : rotary.get<float>("partial_rotary_factor", 0.25f);
    if (!(share > 0 && share <= 1)) {
      fail<ConfigError>("[config] {}: partial_rotary_factor: expected more than 0 and at most 1, found {}", c.where(),
                        share);
    }
    rope.dims = int(double(head_dim) * share + 1e-3);
  }

  bool attends(int layer) const { return (layer + 1) % interval == 0; }

  bool is_next, attention_bias;
  int interval;  // every so many layers one attends
  int value_heads, key_heads, key_dim, value_dim, taps;
  float norm_offset = 0;  // added to the weights of norms that are stored less 1
};

class Attention {
 public:
  Attention(const Config& c, const nn::Weights& w)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        head_dim_(c.head_dim),
        q_proj_(w / "q_proj", c.hidden_size, 2 * heads_ * c.head_dim, c.attention_bias),
        k_proj_(w / "k_proj", c.hidden_size, kv_heads_ * c.head_dim, c.attention_bias),
        v_proj_(w / "v_proj", c.hidden_size, kv_heads_ * c.head_dim, c.attention_bias),
        o_proj_(w / "o_proj", heads_ * c.head_dim, c.hidden_size, c.attention_bias),
        q_norm_(w / "q_norm", c.head_dim, c.rms_norm_eps, c.norm_offset),
        k_norm_(w / "k_norm", c.head_dim, c.rms_norm_eps, c.norm_offset),
        rope_(c.rope, c.rope_scaling) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto [both, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    const int all = heads_ * head_dim_;  // both: of each head its query, then its gate
    const auto q = q_norm_(nn::split_heads(ops::take_columns({both, 0, all, head_dim_, 2 * head_dim_}), heads_));
    k = k_norm_(nn::split_heads(k, kv_heads_));
    v = nn::split_heads(v, kv_heads_);
    const auto y = nn::merge_heads(nn::attend(q, k, v, rope_, cache, 1.f / std::sqrt(float(head_dim_))));
    return o_proj_(ops::sigmoid_gate(y, {both, head_dim_, all, head_dim_, 2 * head_dim_}));
  }

 private:
  int heads_, kv_heads_, head_dim_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::RMSNorm q_norm_, k_norm_;
  nn::Rope rope_;
};

// The columns of a delta net's projections.
struct Projected {
  std::vector<ops::Columns> qkv;
  ops::Columns z, b, a;
};

// One product for q, k, v and z, one for b and a: each in groups by key head.
class GroupedProjection {
 public:
  GroupedProjection(const Config& c, const nn::Weights& w)
      : heads_(c.key_heads),
        key_dim_(c.key_dim),
        shared_(c.value_heads / c.key_heads),
        values_(shared_ * c.value_dim),
        in_proj_qkvz_(w / "in_proj_qkvz", c.hidden_size, 2 * heads_ * (key_dim_ + values_)),
        in_proj_ba_(w / "in_proj_ba", c.hidden_size, 2 * c.value_heads) {}

  Projected operator()(const mx::array& x) const {
    const auto [qkvz, ba] = project(x, in_proj_qkvz_, in_proj_ba_);
    const int apart = 2 * (key_dim_ + values_);
    const auto part = [&](int begin, int size) { return ops::Columns(qkvz, begin, heads_ * size, size, apart); };
    const auto gate = [&](int begin) { return ops::Columns(ba, begin, heads_ * shared_, shared_, 2 * shared_); };
    return {{part(0, key_dim_), part(key_dim_, key_dim_), part(2 * key_dim_, values_)},
            part(2 * key_dim_ + values_, values_),
            gate(0),
            gate(shared_)};
  }

 private:
  int heads_, key_dim_, shared_, values_;  // shared: value heads of a key head, and all their numbers
  nn::Linear in_proj_qkvz_, in_proj_ba_;
};

// A product for each.
class SplitProjection {
 public:
  SplitProjection(const Config& c, const nn::Weights& w)
      : in_proj_qkv_(w / "in_proj_qkv", c.hidden_size, 2 * c.key_heads * c.key_dim + c.value_heads * c.value_dim),
        in_proj_z_(w / "in_proj_z", c.hidden_size, c.value_heads * c.value_dim),
        in_proj_b_(w / "in_proj_b", c.hidden_size, c.value_heads),
        in_proj_a_(w / "in_proj_a", c.hidden_size, c.value_heads) {}

  Projected operator()(const mx::array& x) const {
    const auto [qkv, z, b, a] = project(x, in_proj_qkv_, in_proj_z_, in_proj_b_, in_proj_a_);
    return {{qkv}, z, b, a};
  }

 private:
  nn::Linear in_proj_qkv_, in_proj_z_, in_proj_b_, in_proj_a_;
};

class GatedDeltaNet {
 public:
  GatedDeltaNet(const Config& c, const nn::Weights& w)
      : keys_(c.key_heads * c.key_dim),
        values_(c.value_heads * c.value_dim),
        eps_(c.rms_norm_eps),
        conv1d_(w / "conv1d", 2 * keys_ + values_, c.taps, /* bias */ false, /* silu */ true),
        decay_{nn::take_decay_rates(w, {c.value_heads}), w.take_vector("dt_bias", c.value_heads)},
        rule_{.key_heads = c.key_heads,
              .value_heads = c.value_heads,
              .key_dim = c.key_dim,
              .value_dim = c.value_dim,
              .correct = true,
              .normalize = 1e-6f},
        norm_((w / "norm").take_vector("weight", c.value_dim)),
        out_proj_(w / "out_proj", values_, c.hidden_size) {
    if (c.is_next) {
      grouped_.emplace(c, w);
    } else {
      split_.emplace(c, w);
    }
  }

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::StateCache& cache) const {
    const int length = x.shape(1);
    const auto in = grouped_ ? (*grouped_)(x) : (*split_)(x);
    const auto mixed = conv1d_(in.qkv, cache);
    const auto [decay, write] = ops::decays(in.a, in.b, decay_);
    const auto y = ops::linear_attention({mixed, 0, keys_}, {mixed, keys_, keys_}, {mixed, 2 * keys_, values_}, decay,
                                         write, rule_, cache.runs(1, length));
    cache.advance(length);
    return out_proj_(ops::gated_rms_norm(y, in.z, norm_, eps_, rule_.value_dim, /* gate_first */ false));
  }

 private:
  int keys_, values_;
  float eps_;
  std::optional<GroupedProjection> grouped_;
  std::optional<SplitProjection> split_;
  nn::ShortConvolution conv1d_;
  ops::Decay decay_;
  ops::LinearAttention rule_;
  mx::array norm_;
  nn::Linear out_proj_;
};

class DecoderLayer {
 public:
  DecoderLayer(const Config& c, const nn::Weights& w, int layer)
      : mlp_(w / "mlp", c.hidden_size, c.intermediate_size),
        input_layernorm_(w / "input_layernorm", c.hidden_size, c.rms_norm_eps, c.norm_offset),
        post_attention_layernorm_(w / "post_attention_layernorm", c.hidden_size, c.rms_norm_eps, c.norm_offset) {
    if (c.attends(layer)) {
      self_attn_.emplace(c, w / "self_attn");
    } else {
      linear_attn_.emplace(c, w / "linear_attn");
    }
  }

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::Cache& cache) const {
    const auto in = input_layernorm_(x);
    const auto h = ops::residual_add(x, self_attn_ ? (*self_attn_)(in, kv(cache)) : (*linear_attn_)(in, states(cache)));
    return ops::residual_add(h, mlp_(post_attention_layernorm_(h)));
  }

 private:
  std::optional<Attention> self_attn_;
  std::optional<GatedDeltaNet> linear_attn_;
  nn::MLP mlp_;
  nn::RMSNorm input_layernorm_, post_attention_layernorm_;
};

class Qwen3NextModel {
 public:
  Qwen3NextModel(const Config& c, const nn::Weights& w)
      : embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.rms_norm_eps, c.norm_offset) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers_.emplace_back(c, w / "layers" / i, i);
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = embed_tokens_(tokens);
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, *caches[i]);
    return norm_(h);
  }

  const nn::Embedding& embed_tokens() const { return embed_tokens_; }

 private:
  nn::Embedding embed_tokens_;
  std::vector<DecoderLayer> layers_;
  nn::RMSNorm norm_;
};

// Brings a checkpoint into the form of mlx-lm's and finds whether its norms are stored less 1.
Config prepared(Config c, const nn::Weights& w) {
  for (const char* part : {"mtp", "language_model.mtp", "model.visual", "vision_tower"}) (w / part).ignore("");
  if (!c.is_next) {
    w.rename("model.language_model", "language_model.model");
    w.rename("model", "language_model.model");
    w.rename("lm_head", "language_model.lm_head");
  }
  for (int i = 0; i < c.num_hidden_layers; ++i) {
    const auto layer = (c.is_next ? w / "model" : w / "language_model.model") / "layers" / i;
    const auto taps = (layer / "linear_attn.conv1d").shape_of("weight");
    if (c.is_next ? layer.has("mlp.experts.0.up_proj.weight") : taps && taps->back() != 1) c.norm_offset = 1;
  }
  return c;
}

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(prepared(Config(text_of(reader), is_next(reader)), w)),
        model_(config_, config_.is_next ? w / "model" : w / "language_model.model"),
        lm_head_(config_.is_next ? w : w / "language_model", config_.tie_word_embeddings, config_.hidden_size,
                 config_.vocab_size) {}

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
      if (!config_.attends(i)) caches[i] = std::make_unique<cache::StateCache>(2);
    }
    return caches;
  }

 private:
  Config config_;
  Qwen3NextModel model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(qwen3_next, Model, "qwen3_next", "qwen3_5");

}  // namespace mlx_lm::models
