// The mixture of experts of DeepSeek and of its many kin: routed experts beside shared ones, after some dense layers.
#pragma once

#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::nn {

// Keys follow Hugging Face's DeepseekV3Config.
struct DeepseekMoEConfig {
  // The router's sigmoid scores are corrected by a bias for the choice alone, and limited to the best groups.
  // Errors: ConfigError that names the field.
  DeepseekMoEConfig(const ConfigReader& c, const DecoderConfig& decoder);

  bool sparse(int layer) const {
    return experts.experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }

  ExpertShape experts;  // none: all layers are dense
  int dense_size;       // of the hidden rows of a dense layer
  int shared_size;      // of those of the shared experts; 0: there are none
  int first_k_dense_replace, moe_layer_freq;
  ops::Routing routing;
  bool corrected = true;
};

// One layer's, from its scope `mlp`. Takes gate.weight, gate.e_score_correction_bias if it is corrected, switch_mlp (or
// experts.{e}) and shared_experts; or those of a dense MLP.
FeedForward deepseek_feed_forward(const Weights& w, const DeepseekMoEConfig& c, int layer);

// Checkpoints carry layers that guess more than one token, behind the model's own: of no use here.
void ignore_further_layers(const Weights& w, int num_hidden_layers);

}  // namespace mlx_lm::nn
