// Ling: experts beside shared ones, fused projections, a router of softmax scores or of corrected sigmoids.
// Source: mlx_lm/models/bailing_moe.py of mlx-lm 0.32. Keys follow inclusionAI's own BailingMoeConfig.

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        experts{.hidden_size = hidden_size,
                .intermediate_size = c.get_size("moe_intermediate_size"),
                .experts = c.get_size("num_experts", 1, 65536),
                .active = c.get_size("num_experts_per_tok")},
        first_k_dense_replace(c.get_size("first_k_dense_replace", 0)),
        use_bias(c.get<bool>("use_bias", false)),
        use_qkv_bias(c.get<bool>("use_qkv_bias", false)),
        use_qk_norm(c.get<bool>("use_qk_norm", false)),
        norm_head(c.get<bool>("norm_head", false)),
        expert_bias(c.get<bool>("moe_router_enable_expert_bias", false)) {
    routing.k = experts.active;
    routing.groups = c.get_size_or("n_group", 1);
    routing.groups_kept = routing.groups > 1 ? c.get_size_or("topk_group", 4) : 1;
    routing.normalize = c.get<bool>("norm_topk_prob") && routing.k > 1;
    routing.epsilon = 1e-20f;
    routing.scale = c.get<float>("routed_scaling_factor", 1.f);
    if (c.get<std::string>("score_function", "softmax") == "sigmoid") routing.scores = ops::Routing::Scores::sigmoid;
    nn::check(routing, experts.experts, c.where());
    if (c.get<bool>("moe_router_enable_shared_expert", true)) {
      const int64_t size = c.get_size_or("moe_shared_expert_intermediate_size", experts.intermediate_size);
      const int64_t all = size * c.get_size("num_shared_experts", 0, 4096);
      if (all > ConfigReader::kMaxSize) {
        fail<ConfigError>("[config] {}: num_shared_experts: expected at most {} hidden rows, found {}", c.where(),
                          ConfigReader::kMaxSize, all);
      }
      shared_size = int(all);
    }
    read_partial_rotary(c, "partial_rotary_factor", 1.f);
    rope.dims = c.get_size_or("rotary_dim", rope.dims, 2, head_dim);
    names.embed_tokens = "word_embeddings";
  }

  nn::ExpertShape experts;
  int first_k_dense_replace;
  int shared_size = 0;  // hidden rows of the shared experts; 0: there are none
  bool use_bias, use_qkv_bias, use_qk_norm, norm_head, expert_bias;
  ops::Routing routing;
};

nn::GroupedAttention attention(const Config& c, const nn::Weights& w) {
  w.rename("query_key_value", "qkv_proj");
  w.rename("query_layernorm", "q_norm");
  w.rename("key_layernorm", "k_norm");
  nn::GroupedAttention::Options options(c);
  options.qkv_bias = c.use_qkv_bias;
  options.out_bias = c.use_bias;
  options.out = "dense";
  if (c.use_qk_norm) options.qk_norm = nn::HeadNorm::Kind::head;
  return {w, options};
}

nn::FeedForward feed_forward(const Config& c, const nn::Weights& w, int layer) {
  if (layer < c.first_k_dense_replace) return nn::MLP(w, c.hidden_size, c.intermediate_size, c.use_bias);
  nn::rename_experts(w, c.experts.experts);
  const auto gate = w / "gate";
  gate.rename("weight", "gate_proj.weight");
  auto bias = c.expert_bias ? std::optional(gate.take_array("expert_bias", {c.experts.experts})) : std::nullopt;
  auto shared = c.shared_size > 0 ? std::optional<nn::MLP>(std::in_place, w / "shared_experts", c.hidden_size,
                                                           c.shared_size, c.use_bias)
                                  : std::nullopt;
  return nn::MoE(
      nn::Router(gate / "gate_proj", c.hidden_size, c.experts.experts, c.routing, /* bias */ false, std::move(bias)),
      nn::SwitchGLU(w / "switch_mlp", c.experts, ops::ExpertActivation::swiglu, c.use_bias), std::move(shared));
}

// The output layer's columns become of length 1. A quantized one was made of such.
const nn::Weights& prepared(const ConfigReader& c, const nn::Weights& w) {
  const auto shape = w.shape_of("lm_head.weight");
  if (!c.get<bool>("norm_head", false) || !shape || w.has("lm_head.scales")) return w;
  w.rewrite({"lm_head.weight"}, {{"lm_head.weight", *shape, [](const std::vector<mx::array>& from) {
                                    const auto x = mx::astype(from[0], mx::float32);
                                    const auto length = mx::sqrt(mx::sum(mx::square(x), 0, /* keepdims */ true));
                                    return mx::astype(x / (length + mx::array(1e-7f)), from[0].dtype());
                                  }}});
  return w;
}

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward>(
            w, c.hidden_size, c.rms_norm_eps, attention(c, w / "attention"), feed_forward(c, w / "mlp", layer)) {}
};

class Model final : public DecoderModel<Config, TransformerBlock> {
 public:
  Model(const ConfigReader& c, const nn::Weights& w) : DecoderModel(c, prepared(c, w)) {}
};

}  // namespace

MLX_LM_ARCHITECTURE(bailing_moe, Model, "bailing_moe");

}  // namespace mlx_lm::models
