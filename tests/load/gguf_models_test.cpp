// The golden cases as GGUF files: names, orders and settings as llama.cpp's converter writes them, and then mlx-lm's
// logits again.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/load/gguf_config.h"
#include "mlx_lm/load/gguf_tensors.h"
#include "mlx_lm/load/quantization.h"

#include "tests/load/gguf_writer.h"
#include "tests/load/temp_folder.h"
#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

// What follows "blk.N." for what follows "model.layers.N.", by gguf-py's table of tensor names.
std::string name_in_block(const std::string& name, bool sandwich) {
  static const std::map<std::string, std::string> names = {{"input_layernorm", "attn_norm"},
                                                           {"self_attn.q_proj", "attn_q"},
                                                           {"self_attn.k_proj", "attn_k"},
                                                           {"self_attn.v_proj", "attn_v"},
                                                           {"self_attn.o_proj", "attn_output"},
                                                           {"self_attn.q_norm", "attn_q_norm"},
                                                           {"self_attn.k_norm", "attn_k_norm"},
                                                           {"pre_feedforward_layernorm", "ffn_norm"},
                                                           {"post_feedforward_layernorm", "post_ffw_norm"},
                                                           {"mlp.gate_proj", "ffn_gate"},
                                                           {"mlp.up_proj", "ffn_up"},
                                                           {"mlp.down_proj", "ffn_down"},
                                                           {"mlp.gate", "ffn_gate_inp"},
                                                           {"mlp.switch_mlp.gate_proj", "ffn_gate_exps"},
                                                           {"mlp.switch_mlp.up_proj", "ffn_up_exps"},
                                                           {"mlp.switch_mlp.down_proj", "ffn_down_exps"}};
  if (name == "post_attention_layernorm") return sandwich ? "post_attention_norm" : "ffn_norm";
  return names.at(name);
}

struct Model {
  const char* golden;
  const char* architecture;
};

class GgufModels : public testing::TestWithParam<Model> {
 protected:
  void SetUp() override { kernels::set_activations(kernels::Activations::float32); }
  void TearDown() override { kernels::set_activations(kernels::Activations::int16); }

  bool is(std::string_view prefix) const { return std::string_view(GetParam().architecture).starts_with(prefix); }

  void add_settings(GgufWriter& w) const {
    const std::string architecture = GetParam().architecture;
    w.add("general.architecture", architecture);
    json config = {{"num_key_value_heads", 1}, {"rms_norm_eps", 1e-6}, {"rope_theta", is("gemma3") ? 1e6 : 1e4}};
    config.update(golden_.config);
    const auto add = [&](const char* key, const char* field, bool whole = true) {
      if (!config.contains(field)) return;
      const auto& value = config[field];
      whole ? w.add(architecture + "." + key, value.get<uint32_t>())
            : w.add(architecture + "." + key, value.get<float>());
    };
    add("embedding_length", "hidden_size");
    add("block_count", "num_hidden_layers");
    add("feed_forward_length", "intermediate_size");
    add("attention.head_count", "num_attention_heads");
    add("attention.head_count_kv", "num_key_value_heads");
    add("attention.key_length", "head_dim");
    add("attention.sliding_window", "sliding_window");
    add("context_length", "max_position_embeddings");
    add("expert_count", "num_experts");
    add("expert_used_count", "num_experts_per_tok");
    add("expert_feed_forward_length", "moe_intermediate_size");
    add("attention.layer_norm_rms_epsilon", "rms_norm_eps", false);
    add("rope.freq_base", "rope_theta", false);
    add("attn_logit_softcapping", "attn_logit_softcapping", false);
    add("final_logit_softcapping", "final_logit_softcapping", false);
  }

  std::string gguf_name(const std::string& name) const {
    const auto dot = name.rfind('.');
    const auto stem = name.substr(0, dot), part = name.substr(dot);
    if (stem == "model.embed_tokens") return "token_embd" + part;
    if (stem == "model.norm") return "output_norm" + part;
    if (stem == "lm_head") return "output" + part;
    const auto inner = stem.find('.', 13);
    return "blk." + stem.substr(13, inner - 13) + "." +
           name_in_block(stem.substr(inner + 1), is("gemma2") || is("gemma3")) + part;
  }

  // Each head's halves are interleaved: row i of a half goes to 2 i and 2 i + 1.
  static mx::array interleaved(const mx::array& w, int heads) {
    const int rows = w.shape(0), half = rows / heads / 2, cols = int(w.size()) / rows;
    return mx::reshape(mx::swapaxes(mx::reshape(w, {heads, 2, half, cols}), 1, 2), w.shape());
  }

  mx::array tensor(const std::string& name, const mx::Shape& shape) const {
    auto w = golden::draw(name, shape, mx::float32, golden_.expected);
    if (is("gemma") && name.ends_with("norm.weight")) w = w + mx::array(1.f);
    const auto& c = golden_.config;
    if (is("llama") && name.find("q_proj") != name.npos) w = interleaved(w, c["num_attention_heads"]);
    if (is("llama") && name.find("k_proj") != name.npos) w = interleaved(w, c["num_key_value_heads"]);
    return mx::contiguous(w);
  }

  std::vector<float> last_logits(const GgufWriter& writer) const {
    const auto file = GgufFile::open(folder_.write("m.gguf", writer.build()));
    const ConfigReader config(gguf_config(*file), "m.gguf");
    const nn::Weights weights(gguf_tensors(file), read_quantization(config), "m.gguf", mx::float32);
    const auto model = models::find_architecture(config.get<std::string>("model_type")).make(config, weights);
    weights.expect_all_taken();
    auto caches = model->make_cache();
    const auto prompt = golden_.expected["prompt"].get<std::vector<int>>();
    const int length = int(prompt.size());
    auto logits = (*model)(mx::array(prompt.data(), {1, length}, mx::int32), caches);
    logits = mx::contiguous(mx::slice(logits, {0, length - 1, 0}, {1, length, logits.shape(2)}));
    logits.eval();
    return {logits.data<float>(), logits.data<float>() + logits.size()};
  }

  static std::vector<float> numbers(mx::array x) {
    x.eval();
    return {x.data<float>(), x.data<float>() + x.size()};
  }
  static std::vector<uint64_t> dimensions(const mx::Shape& shape) { return {shape.rbegin(), shape.rend()}; }

  template <class F>
  void for_each_tensor(F f) const {
    for (const auto& [name, entry] : golden_.expected["parameters"].items()) {
      const mx::Shape shape = entry;
      f(gguf_name(name), shape, numbers(tensor(name, shape)));
    }
  }

  const GoldenCase golden_{GetParam().golden};
  TempFolder folder_;
};

TEST_P(GgufModels, have_the_logits_of_mlx_lm) {
  GgufWriter w;
  add_settings(w);
  for_each_tensor([&](const std::string& name, const mx::Shape& shape, const std::vector<float>& values) {
    w.add_f32(name, dimensions(shape), values);
  });
  const auto found = last_logits(w);
  const auto wanted = golden_.expected["exact"]["last"].get<std::vector<float>>();
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-4) << "token " << i;
}

// Q8_0: for every 32 numbers a float16 scale and a byte each.
TEST_P(GgufModels, of_blocks_have_the_logits_of_their_numbers) {
  GgufWriter blocks, plain;
  add_settings(blocks);
  add_settings(plain);
  for_each_tensor([&](const std::string& name, const mx::Shape& shape, std::vector<float> values) {
    if (shape.size() < 2 || shape.back() % 32 != 0 || name.find("gate_inp") != name.npos) {
      blocks.add_f32(name, dimensions(shape), values);
    } else {
      std::string data;
      for (size_t i = 0; i < values.size(); i += 32) {
        const float most = std::abs(*std::max_element(values.begin() + long(i), values.begin() + long(i) + 32,
                                                      [](float a, float b) { return std::abs(a) < std::abs(b); }));
        const mx::float16_t scale(most / 127);
        data += GgufWriter::raw(scale);
        for (size_t k = i; k < i + 32; ++k) {
          const auto code = int8_t(std::lround(std::clamp(values[k] / float(scale), -127.f, 127.f)));
          data += char(code);
          values[k] = float(scale) * float(code);
        }
      }
      blocks.tensors.push_back({name, dimensions(shape), 8, data, {}, {}});
    }
    plain.add_f32(name, dimensions(shape), values);
  });
  const auto found = last_logits(blocks), wanted = last_logits(plain);
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-4) << "token " << i;
}

INSTANTIATE_TEST_SUITE_P(Architectures, GgufModels,
                         testing::Values(Model{"llama_basic", "llama"}, Model{"llama_biases", "llama"},
                                         Model{"llama_gqa_head_dim", "llama"}, Model{"qwen2_tied", "qwen2"},
                                         Model{"qwen2_untied", "qwen2"}, Model{"qwen3_tied", "qwen3"},
                                         Model{"qwen3_moe_every_layer", "qwen3moe"}, Model{"gemma_basic", "gemma"},
                                         Model{"gemma_gqa_theta", "gemma"}, Model{"gemma2_basic", "gemma2"},
                                         Model{"gemma3_text_defaults", "gemma3"}),
                         [](const auto& info) { return std::string(info.param.golden); });

}  // namespace
}  // namespace mlx_lm
