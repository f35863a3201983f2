// A tiny llama-like model as a GGUF file: 2 layers, 2 heads of 4, 1 head of keys and values, 6 tokens.
#pragma once

#include <numeric>
#include <string>
#include <vector>

#include "tests/load/gguf_writer.h"

inline std::vector<float> counting(size_t count, float from = 0) {
  std::vector<float> out(count);
  std::iota(out.begin(), out.end(), from);
  return out;
}

inline GgufWriter tiny_gguf(const std::string& architecture = "llama") {
  GgufWriter w;
  auto key = [&](const char* name) { return architecture + "." + name; };
  w.add("general.architecture", architecture);
  w.add(key("block_count"), uint32_t(2)).add(key("embedding_length"), uint32_t(8));
  w.add(key("feed_forward_length"), uint32_t(12)).add(key("context_length"), uint32_t(64));
  w.add(key("attention.head_count"), uint32_t(2)).add(key("attention.head_count_kv"), uint32_t(1));
  w.add(key("attention.layer_norm_rms_epsilon"), 1e-5f).add(key("rope.freq_base"), 500000.f);
  w.add_f32("token_embd.weight", {8, 6}, counting(48)).add_f32("output_norm.weight", {8}, counting(8));
  for (const char* block : {"blk.0.", "blk.1."}) {
    auto name = [&](const char* part) { return std::string(block) + part; };
    w.add_f32(name("attn_q.weight"), {8, 8}, counting(64)).add_f32(name("attn_k.weight"), {8, 4}, counting(32));
    w.add_f32(name("attn_v.weight"), {8, 4}, counting(32)).add_f32(name("attn_norm.weight"), {8}, counting(8));
  }
  return w;
}
