// DeepSeek V2, V3 and R1, Kimi K2, GLM 4.7 Flash: latent attention and many experts.
// Source: mlx_lm/models/deepseek_v2.py, deepseek_v3.py and glm4_moe_lite.py of mlx-lm 0.32. Keys follow Hugging Face's
// DeepseekV3Config. DeepSeek V2 remembers latent rows as well, where mlx-lm keeps the keys and values of every head.

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/deepseek_moe.h"
#include "mlx_lm/nn/mla.h"

namespace mlx_lm::models {
namespace {

// What a configuration may leave out.
ConfigReader completed(const ConfigReader& c) {
  nlohmann::json all = {{"vocab_size", 102400},
                        {"hidden_size", 4096},
                        {"intermediate_size", 11008},
                        {"num_hidden_layers", 30},
                        {"num_attention_heads", 32},
                        {"num_key_value_heads", 32},
                        {"q_lora_rank", 1536},
                        {"kv_lora_rank", 512},
                        {"qk_rope_head_dim", 64},
                        {"v_head_dim", 128},
                        {"qk_nope_head_dim", 128},
                        {"rms_norm_eps", 1e-6},
                        {"max_position_embeddings", 2048},
                        {"moe_intermediate_size", 1407}};
  if (c.get<std::string>("model_type", "") == "glm4_moe_lite") {
    all.update({{"vocab_size", 154880},
                {"hidden_size", 2048},
                {"intermediate_size", 10240},
                {"num_hidden_layers", 47},
                {"num_attention_heads", 20},
                {"num_key_value_heads", 20},
                {"q_lora_rank", 768},
                {"v_head_dim", 256},
                {"qk_nope_head_dim", 192},
                {"rms_norm_eps", 1e-5},
                {"rope_theta", 1e6},
                {"moe_intermediate_size", 1536},
                {"n_shared_experts", 1},
                {"n_routed_experts", 64},
                {"routed_scaling_factor", 1.8},
                {"num_experts_per_tok", 4},
                {"first_k_dense_replace", 1}});
  }
  all.update(c.json());
  return {std::move(all), c.where()};
}

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& reader) : Config(completed(reader), reader.get<std::string>("model_type", "")) {}
  Config(const ConfigReader& c, const std::string& type)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = false}),
        attention(c, *this),
        experts(c, *this) {
    if (type == "glm4_moe_lite") attention.norm_eps = rms_norm_eps;
    const bool v2 = type == "deepseek_v2";
    const auto method = c.get<std::string>("topk_method", v2 ? "greedy" : "noaux_tc");
    if (v2) {
      const bool limited = method == "group_limited_greedy";
      experts.corrected = false;
      experts.routing.scores = ops::Routing::Scores::softmax;
      experts.routing.normalize = false;
      experts.routing.group_best = 1;
      if (!limited) experts.routing.groups = experts.routing.groups_kept = 1;
    } else if (method != "noaux_tc") {
      fail<UnsupportedModel>("[config] {}: topk_method: expected noaux_tc, found {}", c.where(), method);
    }
  }

  nn::MLAConfig attention;
  nn::DeepseekMoEConfig experts;
};

struct TransformerBlock : nn::TransformerBlock<nn::MLA, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<nn::MLA, nn::FeedForward>(w, c.hidden_size, c.rms_norm_eps,
                                                       nn::MLA(w / "self_attn", c.attention),
                                                       nn::deepseek_feed_forward(w / "mlp", c.experts, layer)) {}
};

class Model final : public DecoderModel<Config, TransformerBlock> {
 public:
  Model(const ConfigReader& c, const nn::Weights& w) : DecoderModel(c, w) {
    nn::ignore_further_layers(w / "model", num_layers());
  }
};

}  // namespace

MLX_LM_ARCHITECTURE(deepseek_v3, Model, "deepseek_v3", "kimi_k2", "joyai_llm_flash", "deepseek_v2", "glm4_moe_lite");

}  // namespace mlx_lm::models
