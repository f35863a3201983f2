// Files that lie. Whatever a byte of a GGUF or safetensors file is changed to, loading ends with a typed error or with
// a model that runs: no crash, no hang, no memory on the word of a number.
#include <sys/resource.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/stream_generate.h"
#include "mlx_lm/load/load.h"

#include "tests/load/gguf_writer.h"
#include "tests/load/temp_folder.h"
#include "tests/load/tiny_model.h"

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kLimitMemory = false;  // its shadow needs the address space
#else
constexpr bool kLimitMemory = true;
#endif

namespace mlx_lm {
namespace {

namespace mx = mlx::core;

class HostileTest : public testing::Test {
 protected:
  HostileTest() {
    mx::set_default_device(mx::Device::cpu);
    if (!kLimitMemory) return;
    ::getrlimit(RLIMIT_AS, &before_);
    // What the process has, and 1 GiB: an allocation beyond it throws what is no Error, and the test fails.
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    auto limit = before_;
    limit.rlim_cur = std::min<rlim_t>(before_.rlim_max, pages * 4096 + (size_t(1) << 30));
    ::setrlimit(RLIMIT_AS, &limit);
  }
  ~HostileTest() override {
    if (kLimitMemory) ::setrlimit(RLIMIT_AS, &before_);
  }

  // Loads, and answers with a token if that works. True: it did.
  static bool survives(const std::filesystem::path& path) {
    try {
      auto [model, tokenizer, config] = load(path.string());
      for (auto& response : stream_generate(*model, tokenizer, std::string("ab"), {.max_tokens = 1}))
        response.logprobs.eval();
      return true;
    } catch (const Error& error) {
      EXPECT_EQ(error.what()[0], '[') << error.what();
      return false;
    }
  }

  TempFolder folder_;
  rlimit before_{};
};

// A llama of one layer, with tensors of several types and both kinds of array.
GgufWriter whole_gguf() {
  GgufWriter w;
  w.add("general.architecture", "llama").add("general.alignment", uint32_t(32));
  w.add("llama.block_count", uint32_t(1)).add("llama.embedding_length", uint32_t(32));
  w.add("llama.feed_forward_length", uint32_t(32)).add("llama.context_length", uint32_t(64));
  w.add("llama.attention.head_count", uint32_t(2)).add("llama.attention.head_count_kv", uint32_t(1));
  w.add("llama.attention.layer_norm_rms_epsilon", 1e-5f).add("llama.rope.freq_base", 10000.f);
  w.add("llama.rope.dimension_count", uint32_t(16));
  w.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", "gpt-2");
  w.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "<s>"});
  w.add_array<int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 3});
  w.add("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  w.add("tokenizer.ggml.eos_token_id", uint32_t(3)).add("tokenizer.ggml.add_bos_token", false);
  auto add = [&](const std::string& name, std::vector<uint64_t> dimensions, uint32_t type, size_t bytes) {
    std::string data;
    for (size_t i = 0; i < bytes; ++i) data += char(i * 7 % 61);
    w.tensors.push_back({name, std::move(dimensions), type, std::move(data), {}, {}});
  };
  constexpr uint32_t kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ8_0 = 8;
  add("token_embd.weight", {32, 4}, kQ8_0, 4 * 34);
  add("output_norm.weight", {32}, kF32, 32 * 4);
  add("blk.0.attn_q.weight", {32, 32}, kQ4_0, 32 * 18);
  add("blk.0.attn_k.weight", {32, 16}, kF16, 32 * 16 * 2);
  add("blk.0.attn_v.weight", {32, 16}, kQ8_0, 16 * 34);
  add("blk.0.attn_output.weight", {32, 32}, kQ4_0, 32 * 18);
  for (const char* name : {"ffn_gate", "ffn_up", "ffn_down"})
    add("blk.0." + std::string(name) + ".weight", {32, 32}, kF16, 2048);
  for (const char* name : {"attn_norm", "ffn_norm"}) add("blk.0." + std::string(name) + ".weight", {32}, kF32, 128);
  return w;
}

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
// For a place of 8 or 4 bytes: nothing, one, the largest of each width with and without a sign, more than there is.
constexpr uint64_t kEights[] = {0, 1, kMax, kMax - 7, uint64_t(1) << 63, uint64_t(1) << 61, uint64_t(1) << 31, 100000};
constexpr uint32_t kFours[] = {0, 1, 9, 0xffffffff, 0x80000000, 0x7fffffff, 100000};

TEST_F(HostileTest, GgufIsWholeToBeginWith) { EXPECT_TRUE(survives(folder_.write("m.gguf", whole_gguf().build()))); }

TEST_F(HostileTest, GgufWithAnyNumberReplaced) {
  const auto header = whole_gguf().header(), whole = whole_gguf().build();
  const auto path = folder_.write("m.gguf", whole);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  auto with = [&](size_t at, const std::string& value) {
    if (whole.compare(at, value.size(), value) == 0) return;
    file.seekp(std::streamoff(at)) << value << std::flush;
    survives(path);
    file.seekp(std::streamoff(at)) << whole.substr(at, value.size()) << std::flush;
  };
  // Names stand between the numbers, so these may be anywhere; 4 letters in a row are no number.
  for (size_t at = 0; at + 8 <= header.size(); ++at) {
    if (std::all_of(&header[at], &header[at + 4], [](char c) { return c >= ' '; })) continue;
    for (uint64_t value : kEights) with(at, GgufWriter::raw(value));
    for (uint32_t value : kFours) with(at, GgufWriter::raw(value));
    if (HasFailure()) FAIL() << "at byte " << at;
  }
}

TEST_F(HostileTest, GgufCutShort) {
  const auto whole = whole_gguf().build(), header = whole_gguf().header();
  for (size_t size = 0; size < whole.size(); size += size < header.size() ? 1 : 61) {
    EXPECT_FALSE(survives(folder_.write("m.gguf", whole.substr(0, size)))) << size;
  }
}

TEST_F(HostileTest, GgufWithRandomBytes) {
  const auto header = whole_gguf().header(), whole = whole_gguf().build();
  std::mt19937 random(1);
  for (int round = 0; round < 4000; ++round) {
    auto bytes = whole;
    // Mostly in the header, where there is more to break.
    const size_t end = round % 4 == 0 ? whole.size() : header.size();
    for (uint32_t n = 1 + random() % 4; n > 0; --n) bytes[random() % end] = char(random());
    survives(folder_.write("m.gguf", bytes));
    if (HasFailure()) FAIL() << "in round " << round;
  }
}

class HostileSafetensorsTest : public HostileTest {
 protected:
  HostileSafetensorsTest() {
    TinyModel model;
    model.write(folder_);
    whole_ = model.safetensors();
    std::memcpy(&header_, whole_.data(), sizeof header_);
    header_ += 8;
  }

  bool survives(const std::string& bytes) {
    folder_.write("model.safetensors", bytes);
    return HostileTest::survives(folder_.path());
  }
  // The file with another header over the same data.
  std::string with_header(const nlohmann::json& header) const { return with_header(header.dump()); }
  std::string with_header(const std::string& text) const {
    return GgufWriter::raw(uint64_t(text.size())) + text + whole_.substr(header_);
  }

  std::string whole_;
  uint64_t header_ = 0;  // bytes before the data
};

TEST_F(HostileSafetensorsTest, SizesOfTheHeader) {
  EXPECT_TRUE(survives(whole_));
  for (uint64_t size : {uint64_t(0), uint64_t(1), uint64_t(7), header_ - 9, header_ - 7, uint64_t(whole_.size()),
                        uint64_t(whole_.size() - 8), uint64_t(100000000), uint64_t(1) << 32, uint64_t(1) << 63, kMax}) {
    auto bytes = whole_;
    bytes.replace(0, 8, GgufWriter::raw(size));
    EXPECT_FALSE(survives(bytes)) << size;
  }
}

TEST_F(HostileSafetensorsTest, EveryFieldOfATensor) {
  const auto header = nlohmann::json::parse(whole_.substr(8, header_ - 8));
  const std::vector<nlohmann::json> values = {0,
                                              1,
                                              -1,
                                              kMax,
                                              kMax - 7,
                                              int64_t(1) << 62,
                                              int64_t(1) << 31,
                                              100000,
                                              1.5,
                                              "F32",
                                              "F64",
                                              "F8_E4M3",
                                              "XX",
                                              "",
                                              nullptr,
                                              true,
                                              nlohmann::json::array(),
                                              nlohmann::json::object()};
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight"}) {
    for (const auto& value : values) {
      for (const char* field :
           {"/dtype", "/shape", "/shape/0", "/data_offsets", "/data_offsets/0", "/data_offsets/1", ""}) {
        auto changed = header;
        auto& place = changed[name][nlohmann::json::json_pointer(field)];
        if (place == value) continue;
        place = value;
        EXPECT_FALSE(survives(with_header(changed))) << name << field << " = " << value;
      }
    }
  }
}

TEST_F(HostileSafetensorsTest, HeadersThatAreNone) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("{}"), std::string("\xff"),
        std::string(100000, '['), std::string(100000, ' '), std::string(R"({"a": 1, "a": 2})"),
        std::string(R"({"__metadata__": {"a": 1}})"), std::string(R"({"__metadata__": []})")}) {
    EXPECT_FALSE(survives(with_header(text))) << text.substr(0, 60);
  }
}

TEST_F(HostileSafetensorsTest, CutShort) {
  for (size_t size = 0; size < whole_.size(); size += size < header_ ? 7 : 997) {
    EXPECT_FALSE(survives(whole_.substr(0, size))) << size;
  }
  EXPECT_FALSE(survives(whole_ + "x"));
}

TEST_F(HostileSafetensorsTest, RandomBytes) {
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    auto bytes = whole_;
    const size_t end = round % 8 == 0 ? whole_.size() : header_;
    for (uint32_t n = 1 + random() % 3; n > 0; --n) bytes[random() % end] = char(random());
    survives(bytes);
    if (HasFailure()) FAIL() << "in round " << round;
  }
}

}  // namespace
}  // namespace mlx_lm
