// A tiny random llama as the Hub has models: a folder with config.json, model.safetensors and a byte-level tokenizer.
// Every part can be changed before it is written.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/load/temp_folder.h"

struct TinyModel {
  struct Tensor {
    std::string dtype;
    std::vector<int64_t> shape;
    std::string data;
  };

  static constexpr int kEnd = 257;  // "<end>", the end token; 256 is "<start>", the rest are bytes

  nlohmann::json config = nlohmann::json::parse(R"({
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 258, "rope_theta": 10000.0,
    "max_position_embeddings": 128, "tie_word_embeddings": true, "eos_token_id": 257})");
  std::map<std::string, Tensor> tensors;
  nlohmann::json tokenizer, tokenizer_config;

  TinyModel() {
    add_matrix("model.embed_tokens.weight", 258, 32);
    // Only ASCII is ever likely, so that every token is readable at once.
    auto& embedding = tensors["model.embed_tokens.weight"].data;
    std::fill(embedding.begin() + 128 * 32 * 4, embedding.begin() + 256 * 32 * 4, '\0');
    add_norm("model.norm.weight", 32);
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
      add_matrix(layer + "self_attn.q_proj.weight", 32, 32);
      add_matrix(layer + "self_attn.k_proj.weight", 16, 32);
      add_matrix(layer + "self_attn.v_proj.weight", 16, 32);
      add_matrix(layer + "self_attn.o_proj.weight", 32, 32);
      add_matrix(layer + "mlp.gate_proj.weight", 48, 32);
      add_matrix(layer + "mlp.up_proj.weight", 48, 32);
      add_matrix(layer + "mlp.down_proj.weight", 32, 48);
      add_norm(layer + "input_layernorm.weight", 32);
      add_norm(layer + "post_attention_layernorm.weight", 32);
    }
    add_tokenizer();
  }

  void add_floats(const std::string& name, const std::vector<int64_t>& shape, const std::vector<float>& values) {
    std::string data(values.size() * sizeof(float), '\0');
    std::memcpy(data.data(), values.data(), data.size());
    tensors[name] = {"F32", shape, data};
  }
  void add_matrix(const std::string& name, int64_t rows, int64_t cols) {
    std::vector<float> values;
    for (int64_t i = 0; i < rows * cols; ++i) values.push_back(random() * 0.4f);
    add_floats(name, {rows, cols}, values);
  }
  void add_norm(const std::string& name, int64_t size) { add_floats(name, {size}, std::vector<float>(size, 1.f)); }

  std::string safetensors() const {
    auto header = nlohmann::json::object();
    std::string data;
    for (const auto& [name, t] : tensors) {
      header[name] = {
          {"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {data.size(), data.size() + t.data.size()}}};
      data += t.data;
    }
    auto text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const uint64_t size = text.size();
    return std::string(reinterpret_cast<const char*>(&size), sizeof size).append(text).append(data);
  }

  void write(const TempFolder& folder, const std::string& name = ".") const {
    folder.write(name + "/config.json", config.dump());
    folder.write(name + "/tokenizer.json", tokenizer.dump());
    folder.write(name + "/tokenizer_config.json", tokenizer_config.dump());
    folder.write(name + "/model.safetensors", safetensors());
  }

 private:
  // From -0.5 to 0.5, the same on every machine.
  float random() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return float(state_ >> 40) / float(1 << 24) - 0.5f;
  }

  // GPT-2's alphabet: each byte is a letter, and each letter a token.
  void add_tokenizer() {
    auto vocab = nlohmann::json::object();
    int extra = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool shown = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const int point = shown ? byte : extra++;
      std::string letter;
      if (point < 0x80) {
        letter = char(point);
      } else {
        letter = {char(0xC0 | point >> 6), char(0x80 | (point & 0x3F))};
      }
      vocab[letter] = byte;
    }
    vocab["<start>"] = 256;
    vocab["<end>"] = kEnd;
    auto special = [](int id, const char* text) {
      return nlohmann::json{{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
                            {"rstrip", false}, {"normalized", false}, {"special", true}};
    };
    const auto byte_level = nlohmann::json::parse(
        R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})");
    tokenizer = {{"version", "1.0"},
                 {"added_tokens", {special(256, "<start>"), special(kEnd, "<end>")}},
                 {"normalizer", nullptr},
                 {"pre_tokenizer", byte_level},
                 {"post_processor", nullptr},
                 {"decoder", byte_level},
                 {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
    tokenizer_config = {
        {"tokenizer_class", "PreTrainedTokenizerFast"},
        {"bos_token", "<start>"},
        {"eos_token", "<end>"},
        {"chat_template",
         "{% for m in messages %}"
         "<start>{{ m.role }}:{{ m.content }}\n{% endfor %}{% if mood %}{{ mood }}{% endif %}"
         "{% if add_generation_prompt %}<start>assistant:{% endif %}"}};
  }

  uint64_t state_ = 1;
};
