// GPT-OSS: experts with biases and clamped activations, attention sinks, layers that slide in turn.
// Source: mlx_lm/models/gpt_oss.py of mlx-lm 0.32. Keys follow Hugging Face's GptOssConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, X experts, F their hidden rows.

#include <cmath>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 150000.f, .tie_word_embeddings = false, .norm_eps_value = 1e-5f}),
        experts{.hidden_size = hidden_size,
                .intermediate_size = intermediate_size,
                .experts = c.get_size_or("num_local_experts", 128, 1, 65536),
                .active = c.get_size_or("num_experts_per_tok", 4)},
        routing{.scores = ops::Routing::Scores::chosen, .k = experts.active} {
    nn::check(routing, experts.experts, c.where());
    read_layer_types(c);
    if (!windows.empty()) return;
    const int window = c.get_size_or("sliding_window", 128);
    for (int i = 0; i < num_hidden_layers; ++i) windows.push_back(i % 2 == 0 ? window : 0);
  }

  nn::ExpertShape experts;
  ops::Routing routing;
};

class Attention {
 public:
  Attention(const Config& c, const nn::Weights& w, int window)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        window_(window),
        scale_(1.f / std::sqrt(float(c.head_dim))),
        sinks_(w.take_vector("sinks", heads_)),
        q_proj_(w / "q_proj", c.hidden_size, heads_ * c.head_dim, /* bias */ true),
        k_proj_(w / "k_proj", c.hidden_size, kv_heads_ * c.head_dim, /* bias */ true),
        v_proj_(w / "v_proj", c.hidden_size, kv_heads_ * c.head_dim, /* bias */ true),
        o_proj_(w / "o_proj", heads_ * c.head_dim, c.hidden_size, /* bias */ true),
        rope_(c.rope, c.rope_scaling) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto [q, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    q = nn::split_heads(q, heads_);     // (B, L, H, D)
    k = nn::split_heads(k, kv_heads_);  // (B, L, K, D)
    v = nn::split_heads(v, kv_heads_);  // (B, L, K, D)
    const nn::AttendOptions options{.scale = scale_, .window = window_, .softcap = 0, .sinks = sinks_};
    return o_proj_(nn::merge_heads(nn::attend(q, k, v, &rope_, cache, options)));
  }

 private:
  int heads_, kv_heads_, window_;
  float scale_;
  mx::array sinks_;  // (H)
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::Rope rope_;
};

// Every second of the rows, which are counted on axis 1: gates and ups take turns.
std::function<mx::array(const std::vector<mx::array>&)> every_second(int first, bool words) {
  return [=](const std::vector<mx::array>& from) {
    auto rows = from[0];
    if (words) rows = mx::flatten(mx::view(rows, mx::uint32), -2);
    auto start = mx::Shape(rows.ndim(), 0), stop = rows.shape(), steps = mx::Shape(rows.ndim(), 1);
    start[1] = first, steps[1] = 2;
    return mx::slice(rows, start, stop, steps);
  };
}

// Published checkpoints fuse gate and up, and have codes of mxfp4 as blocks of bytes: (X, 2 F, E / 32, 16).
void separate(const nn::Weights& w, const nn::ExpertShape& s) {
  const auto split = [&](const std::string& from, const std::string& to, mx::Shape shape, bool words) {
    if (!w.has("gate_up_proj" + from)) return;
    const auto dtype = words ? std::optional(mx::uint32) : std::nullopt;
    w.rewrite({"gate_up_proj" + from}, {{"gate_proj." + to, shape, every_second(0, words), dtype},
                                        {"up_proj." + to, shape, every_second(1, words), dtype}});
  };
  const int words = s.hidden_size / 8, groups = s.hidden_size / 32, down_words = s.intermediate_size / 8;
  split("_blocks", "weight", {s.experts, s.intermediate_size, words}, true);
  split("_scales", "scales", {s.experts, s.intermediate_size, groups}, false);
  split("_bias", "bias", {s.experts, s.intermediate_size}, false);
  if (w.has("down_proj_blocks")) {
    const auto as_words = [](const std::vector<mx::array>& from) {
      return mx::flatten(mx::view(from[0], mx::uint32), -2);
    };
    w.rewrite({"down_proj_blocks"},
              {{"down_proj.weight", {s.experts, s.hidden_size, down_words}, as_words, mx::uint32}});
    w.rename("down_proj_scales", "down_proj.scales");
  }
  w.rename("down_proj_bias", "down_proj.bias");
}

nn::FeedForward experts(const Config& c, const nn::Weights& w) {
  separate(w / "experts", c.experts);
  return nn::MoE(nn::Router(w / "router", c.hidden_size, c.experts.experts, c.routing, /* bias */ true),
                 nn::SwitchGLU(w / "experts", c.experts, ops::ExpertActivation::clamped_swiglu, /* bias */ true));
}

struct TransformerBlock : nn::TransformerBlock<Attention, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<Attention, nn::FeedForward>(
            w, c.hidden_size, c.rms_norm_eps, Attention(c, w / "self_attn", c.window(layer)), experts(c, w / "mlp")) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(gpt_oss, Model, "gpt_oss");

}  // namespace mlx_lm::models
