// GPT-OSS: experts with biases and clamped activations, attention sinks, layers that slide in turn.
// Source: mlx_lm/models/gpt_oss.py of mlx-lm 0.32. Keys follow Hugging Face's GptOssConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, X experts, F their hidden rows.

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
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

// Checkpoints fuse gate and up. Published ones have codes of mxfp4 as blocks of bytes, (X, 2 F, E / 32, 16); others
// have `gate_up_proj.weight` (X, 2 F, E), perhaps quantized already.
void separate(const nn::Weights& w, const nn::ExpertShape& s) {
  const auto split = [&](const std::string& from, const std::string& to, mx::Shape shape, bool words) {
    const auto found = w.shape_of("gate_up_proj" + from);
    if (!found) return;
    if (found->size() != shape.size() + (words ? 1 : 0)) {
      fail<WeightError>("[weights] experts.gate_up_proj{}: expected {} dimensions, found {}", from,
                        shape.size() + (words ? 1 : 0), found->size());
    }
    const auto dtype = words ? std::optional(mx::uint32) : std::nullopt;
    w.rewrite({"gate_up_proj" + from}, {{"gate_proj." + to, shape, every_second(0, words), dtype},
                                        {"up_proj." + to, shape, every_second(1, words), dtype}});
  };
  const int words = s.hidden_size / 8, groups = s.hidden_size / 32, down_words = s.intermediate_size / 8;
  split("_blocks", "weight", {s.experts, s.intermediate_size, words}, true);
  split("_scales", "scales", {s.experts, s.intermediate_size, groups}, false);
  split("_bias", "bias", {s.experts, s.intermediate_size}, false);
  const int cols = w.has("gate_up_proj.scales") ? words : s.hidden_size;
  split(".weight", "weight", {s.experts, s.intermediate_size, cols}, false);
  split(".scales", "scales", {s.experts, s.intermediate_size, groups}, false);
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

nn::GroupedAttention attention(const Config& c, const nn::Weights& w, int layer) {
  nn::GroupedAttention::Options o(c);
  o.window = c.window(layer);
  o.sinks = w.take_vector("sinks", o.heads);
  o.qkv_bias = o.out_bias = true;
  return {w, o};
}

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward>(
            w, c.hidden_size, c.rms_norm_eps, attention(c, w / "self_attn", layer), experts(c, w / "mlp")) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(gpt_oss, Model, "gpt_oss");

}  // namespace mlx_lm::models
