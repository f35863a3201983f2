// SmolLM 3: Llama, some of whose layers know no positions.
// Source: mlx_lm/models/smollm3.py of mlx-lm 0.32. Keys follow Hugging Face's SmolLM3Config.

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        attention_bias(c.get<bool>("attention_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)),
        no_rope_layers(c.get<std::vector<int>>("no_rope_layers", {})) {
    read_layer_types(c);
    const int interval = c.get_size_or("no_rope_layer_interval", 4);
    if (!c.has("no_rope_layers")) {
      for (int i = 0; i < num_hidden_layers; ++i) no_rope_layers.push_back((i + 1) % interval != 0);
    }
    if (int(no_rope_layers.size()) != num_hidden_layers) {
      fail<ConfigError>("[config] {}: no_rope_layers: expected {} entries, found {}", c.where(), num_hidden_layers,
                        no_rope_layers.size());
    }
  }

  nn::GroupedAttention::Options attention(int layer) const {
    nn::GroupedAttention::Options o(*this);
    if (no_rope_layers[layer] == 0) o.rope.reset();
    o.window = window(layer);
    o.qkv_bias = o.out_bias = attention_bias;
    return o;
  }

  bool attention_bias, mlp_bias;
  std::vector<int> no_rope_layers;  // despite its name: 0 for a layer without rotary positions
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(smollm3, Model, "smollm3");

}  // namespace mlx_lm::models
