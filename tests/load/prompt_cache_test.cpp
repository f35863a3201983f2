// Prompt-cache files: mlx-lm's are gone on from as it does itself (tests/golden/dump_prompt_caches.py), ours have its
// layout (that it reads them: tests/real/prompt_cache.py), and no other file is taken for one.
#include "mlx_lm/load/prompt_cache.h"

#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/rotating.h"
#include "mlx_lm/ops/backend.h"

#include "tests/load/temp_folder.h"
#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path golden_files() { return fs::path(MLX_LM_TEST_DATA) / "golden" / "prompt_caches"; }

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class PromptCacheFile : public testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = GoldenCase("llama_kv_bits").make().release(); }
  static void TearDownTestSuite() { delete model_; }
  void TearDown() override { ops::set_backend(ops::Backend::kernels); }

  static mx::array step(cache::KVCaches& caches, const std::vector<int>& tokens,
                        const models::LanguageModel& model = *model_) {
    auto logits = model(mx::array(tokens.data(), {1, int(tokens.size())}, mx::int32), caches);
    return mx::slice(logits, {0, int(tokens.size()) - 1, 0}, {1, int(tokens.size()), logits.shape(2)});
  }
  // Goes on as mlx-lm did.
  static void check_steps(cache::KVCaches& caches, const json& expected, const models::LanguageModel& model = *model_) {
    for (const auto& wanted : expected["steps"]) {
      auto logits = step(caches, wanted["tokens"], model);
      logits.eval();
      for (int i = 0; i < 8; ++i) EXPECT_NEAR(logits.data<float>()[i], wanted["logits"][i].get<float>(), 2e-4) << i;
    }
  }
  // Caches that have read some tokens.
  static cache::KVCaches some(int max_size = 0, const std::vector<int>& steps = {5}, ops::KVFormat format = {}) {
    auto caches = model_->make_cache(max_size);
    int token = 0;
    for (int n : steps) {
      std::vector<int> tokens;
      for (int i = 0; i < n; ++i) tokens.push_back(token++ % 90);
      step(caches, tokens).eval();
    }
    for (auto& cache : caches) cache::kv(*cache).quantize(format);
    return caches;
  }
  fs::path file(const std::string& name = "cache.safetensors") const { return folder_.path() / name; }

  TempFolder folder_;
  static inline models::LanguageModel* model_;
};

TEST_F(PromptCacheFile, of_mlx_lm_is_gone_on_from_as_it_does) {
  const auto golden = read_json(golden_files() / "expected.json");
  ASSERT_EQ(golden.size(), 10u);
  for (auto backend : {ops::Backend::kernels, ops::Backend::mlx}) {
    ops::set_backend(backend);
    for (const auto& [name, expected] : golden.items()) {
      SCOPED_TRACE(name);
      const auto path = golden_files() / (name + ".safetensors");
      const auto before = bytes_of(path);
      auto loaded = load_prompt_cache(path);
      EXPECT_EQ(loaded.metadata,
                (PromptCacheMetadata{{"model", "a/model"}, {"tokenizer_config", "{\"trust_remote_code\": false}"}}));
      check_prompt_cache(loaded.caches, *model_, name);
      for (const auto& cache : loaded.caches) {
        EXPECT_EQ(cache->offset(), expected["offset"]);
        const auto& format = cache::kv(*cache).format();
        EXPECT_EQ(format.bits, expected["bits"]);
        if (format.quantized()) {
          EXPECT_EQ(format.group_size, expected["group_size"]);
        }
        const auto* ring = dynamic_cast<const cache::RotatingKVCache*>(cache.get());
        ASSERT_EQ(ring == nullptr, expected["max_size"].is_null());
        if (ring) {
          EXPECT_EQ(ring->max_size(), expected["max_size"]);
          EXPECT_EQ(ring->keep(), expected["keep"]);
        }
      }
      // Saved again and from there, too: in our own layout, whose arrays are used where they lie.
      save_prompt_cache(file(), loaded.caches, loaded.metadata);
      auto again = load_prompt_cache(file());
      EXPECT_EQ(again.metadata, loaded.metadata);
      check_steps(loaded.caches, expected);
      check_steps(again.caches, expected);
      EXPECT_EQ(bytes_of(path), before) << "the file itself is not written to";
    }
  }
}

TEST_F(PromptCacheFile, of_mlx_lm_of_other_kinds_is_gone_on_from_as_it_does) {
  const auto golden = read_json(golden_files() / "kinds.json");
  ASSERT_EQ(golden.size(), 4u);
  for (auto backend : {ops::Backend::kernels, ops::Backend::mlx}) {
    ops::set_backend(backend);
    for (const auto& [name, expected] : golden.items()) {
      SCOPED_TRACE(name);
      const auto model = GoldenCase(expected["case"]).make();
      auto loaded = load_prompt_cache(golden_files() / (name + ".safetensors"));
      check_prompt_cache(loaded.caches, *model, name);
      // Where no layer has rows, mlx-lm's file does not say how many tokens there were.
      for (const auto& cache : loaded.caches) {
        EXPECT_EQ(cache->offset(), name == "states" ? 0 : expected["offset"].get<int>());
        cache->assume_offset(expected["offset"]);
      }
      save_prompt_cache(file(), loaded.caches, loaded.metadata);
      auto again = load_prompt_cache(file());
      EXPECT_EQ(again.metadata, loaded.metadata);
      for (const auto& cache : again.caches) EXPECT_EQ(cache->offset(), expected["offset"]);
      check_steps(loaded.caches, expected, *model);
      check_steps(again.caches, expected, *model);
    }
  }
}

TEST_F(PromptCacheFile, of_states_fits_its_model_alone) {
  const auto mamba = GoldenCase("mamba_basic").make(), other = GoldenCase("mamba_untied_biases").make();
  const auto loaded = load_prompt_cache(golden_files() / "states.safetensors");
  check_prompt_cache(loaded.caches, *mamba, "file");
  EXPECT_EQ(message_of([&] { check_prompt_cache(loaded.caches, *other, "file"); }),
            "[prompt cache] file: layer 0: expected states of (1, 2, 100)(1, 100, 10), as this model has, found "
            "(1, 3, 128)(1, 128, 16)");
  const auto rows = load_prompt_cache(golden_files() / "states_and_rows.safetensors");
  const auto turned = [&] {
    auto caches = cache::copy(rows.caches);
    std::swap(caches[0], caches[1]);
    return caches;
  }();
  EXPECT_EQ(message_of([&] { check_prompt_cache(turned, *GoldenCase("lfm2_basic").make(), "file"); }),
            "[prompt cache] file: layer 0: expected this model's kind of cache, found another");
}

TEST_F(PromptCacheFile, of_chunks_fits_its_model_alone) {
  const auto loaded = load_prompt_cache(golden_files() / "chunks.safetensors");
  EXPECT_EQ(message_of([&] { check_prompt_cache(loaded.caches, *GoldenCase("llama4_every_layer").make(), "file"); }),
            "[prompt cache] file: expected the 4 layers of this model, found 5");
  GoldenCase other("llama4_basic");
  other.config["text_config"]["attention_chunk_size"] = 17;
  EXPECT_EQ(message_of([&] { check_prompt_cache(loaded.caches, *other.make(), "file"); }),
            "[prompt cache] file: layer 0: expected a ChunkedKVCache of 17 tokens, found another");
  auto turned = cache::copy(loaded.caches);
  std::swap(turned[3], turned[4]);
  EXPECT_EQ(message_of([&] { check_prompt_cache(turned, *GoldenCase("llama4_basic").make(), "file"); }),
            "[prompt cache] file: layer 3: expected a cache that is not in chunks, found another");
}

TEST_F(PromptCacheFile, of_a_quantized_ring) {
  for (const auto& steps : {std::vector{5}, {20}, {5, 1, 1, 1, 1, 1, 1, 1, 1}, {20, 1, 1}}) {
    auto caches = some(8, steps, {8, 32});
    save_prompt_cache(file(), caches, {});
    auto loaded = load_prompt_cache(file());
    for (const auto& tokens : {std::vector{1}, {2}, {3, 4, 5}, {6}}) {
      EXPECT_TRUE(mx::array_equal(step(caches, tokens), step(loaded.caches, tokens)).item<bool>());
    }
  }
}

// The bits of a cache in memory, whatever its form.
TEST_F(PromptCacheFile, goes_on_with_the_same_bits) {
  for (const auto& format : {ops::KVFormat{}, {8, 64}, {4, 32}, {3, 64}}) {
    for (int max_size : {0, 8, 64}) {
      auto caches = some(max_size, {5, 1, 6}, format);
      save_prompt_cache(file(), caches, {});
      auto loaded = load_prompt_cache(file());
      for (const auto& tokens : {std::vector{1}, {2}, {3, 4, 5}, {6}}) {
        EXPECT_TRUE(mx::array_equal(step(caches, tokens), step(loaded.caches, tokens)).item<bool>())
            << format.bits << ", " << max_size;
      }
    }
  }
}

// A step that was taken back leaves a full ring with a row less than mlx-lm has.
TEST_F(PromptCacheFile, of_a_ring_that_was_trimmed) {
  for (int taken : {1, 4, 5}) {
    auto caches = some(8, {7, 1, 1, 1, 5});
    cache::trim(caches, taken);
    save_prompt_cache(file(), caches, {});
    auto loaded = load_prompt_cache(file());
    EXPECT_GE(cache::kv(*loaded.caches[0]).keys()->rows(), 8);
    for (const auto& tokens : {std::vector{1}, {2}, {3, 4, 5}, {6}}) {
      EXPECT_TRUE(mx::array_equal(step(caches, tokens), step(loaded.caches, tokens)).item<bool>()) << taken;
    }
  }
}

TEST_F(PromptCacheFile, is_not_written_to_after_a_trim) {
  save_prompt_cache(file(), some(), {});
  const auto before = bytes_of(file());
  for (int n : {1, 4}) {
    auto loaded = load_prompt_cache(file());
    cache::trim(loaded.caches, n);
    auto expected = some();
    cache::trim(expected, n);
    EXPECT_TRUE(mx::array_equal(step(loaded.caches, {7, 8}), step(expected, {7, 8})).item<bool>());
    auto copy = cache::copy(load_prompt_cache(file()).caches);
    step(copy, {3}).eval();
  }
  EXPECT_EQ(bytes_of(file()), before);
}

TEST_F(PromptCacheFile, has_the_layout_of_mlx_lm) {
  cache::KVCaches caches;
  const auto x = mx::ones({1, 3, 2, 32}, mx::float32);
  auto growing = std::make_unique<cache::GrowingKVCache>(mx::float16);
  growing->update(x, x, 0);
  auto ring = std::make_unique<cache::RotatingKVCache>(mx::float16, 8, 2);
  ring->update(x, x, 0);
  auto quantized = std::make_unique<cache::GrowingKVCache>(mx::float16);
  quantized->update(x, x, 0);
  quantized->quantize({4, 32});
  caches.push_back(std::move(growing)), caches.push_back(std::move(ring)), caches.push_back(std::move(quantized));
  save_prompt_cache(file(), caches, {{"model", "m"}, {"tokenizer_config", "{}"}});
  const auto bytes = bytes_of(file());
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), 8);
  EXPECT_EQ((size + 8) % 64, 0u);
  const auto header = json::parse(bytes.substr(8, size));
  EXPECT_EQ(header["__metadata__"], json::parse(R"({
    "0.model": "m", "0.tokenizer_config": "{}",
    "1.0": "KVCache", "1.1": "RotatingKVCache", "1.2": "QuantizedKVCache",
    "2.0": "", "2.1.0": "0.2", "2.1.1": "scalar",
    "2.2.0": "1.2", "2.2.1": "scalar", "2.3.0": "1.3", "2.3.1": "scalar",
    "2.4.0": "1.4", "2.4.1": "scalar", "2.5.0": "1.5", "2.5.1": "scalar",
    "2.6.0": "2.2", "2.6.1": "scalar", "2.7.0": "2.3", "2.7.1": "scalar", "2.8.0": "2.4", "2.8.1": "scalar"})"));
  json shapes;
  size_t end = 0;
  for (const auto& [name, info] : header.items()) {
    if (name == "__metadata__") continue;
    const std::string type = info["dtype"];
    shapes[name] = type + " " + info["shape"].dump();
    EXPECT_EQ(info["data_offsets"][0].get<size_t>() % (type == "F16" ? 2 : 4), 0u) << name;
    end = std::max(end, info["data_offsets"][1].get<size_t>());
  }
  EXPECT_EQ(8 + size + end, bytes.size());
  EXPECT_EQ(shapes, json::parse(R"({
    "0.0": "F16 [1,2,3,32]", "0.1": "F16 [1,2,3,32]", "0.2": "I32 []",
    "1.0": "F16 [1,2,3,32]", "1.1": "F16 [1,2,3,32]", "1.2": "I32 []", "1.3": "I32 []", "1.4": "I32 []",
    "1.5": "I32 []",
    "2.0.0": "U32 [1,2,3,4]", "2.0.1": "F16 [1,2,3,1]", "2.0.2": "F16 [1,2,3,1]",
    "2.1.0": "U32 [1,2,3,4]", "2.1.1": "F16 [1,2,3,1]", "2.1.2": "F16 [1,2,3,1]",
    "2.2": "I32 []", "2.3": "I32 []", "2.4": "I32 []"})"));
  int found = 0;
  for (const auto& entry : fs::directory_iterator(folder_.path())) found += entry.path() != file();
  EXPECT_EQ(found, 0) << "no unfinished file is left";
}

TEST_F(PromptCacheFile, cannot_be_made_of_what_is_not_there) {
  EXPECT_EQ(message_of([&] { save_prompt_cache(file(), model_->make_cache(), {}); }),
            "[prompt cache] expected a cache of at least one token, found an empty one");
  EXPECT_EQ(message_of([&] { save_prompt_cache(file(), {}, {}); }),
            "[prompt cache] expected the caches of a model, found none");
  EXPECT_EQ(message_of([&] {
              save_prompt_cache(file(), some(), {{"a.b", ""}});
            }),
            "[prompt cache] metadata: expected a key without a dot, found 'a.b'");
  EXPECT_NE(message_of([&] { save_prompt_cache(file() / "x", some(), {}); }).find("could not be written: "),
            std::string::npos);
}

// Files that were cut, edited or made by something else.
TEST_F(PromptCacheFile, refuses_others_with_one_line) {
  save_prompt_cache(file(), some(8, {5, 1}), {{"model", "m"}});
  const auto whole = bytes_of(file());
  uint64_t size = 0;
  std::memcpy(&size, whole.data(), 8);
  const auto header = json::parse(whole.substr(8, size));
  const auto refused = [&](const std::string& bytes) {
    std::ofstream(file(), std::ios::binary) << bytes;
    const auto message = message_of([&] {
      auto loaded = load_prompt_cache(file());
      check_prompt_cache(loaded.caches, *model_, file().string());
    });
    EXPECT_NE(message.find(file().string()), std::string::npos) << "'" << message << "'";
    EXPECT_EQ(message.find('\n'), std::string::npos);
    const auto at = message.find(file().string());
    return at == std::string::npos ? message : message.substr(at + file().string().size());
  };
  const auto with_header = [&](json other) {
    const auto text = other.dump();
    const uint64_t length = text.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + text + whole.substr(8 + size);
  };
  const auto edited = [&](const std::function<void(json&)>& edit) {
    auto other = header;
    edit(other);
    return refused(with_header(other));
  };
  const auto with_number = [&](const std::string& name, int value) {
    auto bytes = whole;
    std::memcpy(bytes.data() + 8 + size + header[name]["data_offsets"][0].get<size_t>(), &value, 4);
    return refused(bytes);
  };

  for (size_t n : {size_t(1), size_t(7), size_t(8), size_t(100), size_t(8 + size), whole.size() - 1}) {
    refused(whole.substr(0, n));
  }
  refused(std::string(200, 'x'));
  EXPECT_EQ(edited([](json& h) { h.erase("__metadata__"); }),
            ": expected the classes of its caches, found none (is it a prompt-cache file?)");
  EXPECT_EQ(edited([](json& h) { h["__metadata__"]["1.0"] = "ConcatenateKVCache"; }),
            ": layer 0: kind: expected KVCache, RotatingKVCache or ChunkedKVCache, any of them Quantized, ArraysCache "
            "or CacheList, found 'ConcatenateKVCache'");
  EXPECT_EQ(edited([](json& h) { h["__metadata__"]["1.0"] = "ArraysCache"; }),
            ": layer 0: state: expected the arrays of one text and nothing else, found more");
  EXPECT_EQ(edited([](json& h) { h["__metadata__"]["1.0"] = "CacheList"; }),
            ": layer 0: state: expected the caches of a list, each with its kind, found none");
  EXPECT_EQ(edited([](json& h) { h["__metadata__"].erase("1.1"); }), ": expected arrays of 1 layers, found '1.0'");
  EXPECT_EQ(edited([](json& h) { h["__metadata__"]["1.2"] = "KVCache"; }),
            ": layer 2: keys: expected an array, found none");
  EXPECT_EQ(edited([](json& h) { h["model.norm.weight"] = h["0.0"], h.erase("0.0"); }),
            ": expected arrays of 2 layers, found 'model.norm.weight'");
  EXPECT_EQ(edited([](json& h) { h["-1.0"] = h["0.0"], h.erase("0.0"); }),
            ": expected arrays of 2 layers, found '-1.0'");
  EXPECT_EQ(edited([](json& h) { h["0.6"] = h["0.5"], h.erase("0.5"); }),
            ": layer 0: index: expected a whole number, found none");
  EXPECT_EQ(edited([](json& h) { h["0.2"]["dtype"] = "F32"; }), ": 0.2: expected a whole number, I32, found F32");
  EXPECT_EQ(edited([](json& h) { h["0.0"]["dtype"] = "I32"; }),
            ": layer 0: keys: expected floating-point numbers, found another type");
  EXPECT_EQ(edited([](json& h) {
              h["0.0"]["shape"] = {1, 1, 6, 128};
            }),
            ": layer 0: values: expected the rows of keys, 1 x 1 x 6 x 128, found 1 x 2 x 6 x 64");
  EXPECT_EQ(edited([](json& h) { h["0.0"]["shape"] = {768}; }),
            ": layer 0: keys: expected (batch, heads, rows, size), found (768)");
  refused(with_header([&] {
    auto other = header;
    other["0.0"]["shape"] = {1, 2, 6, 640000};
    return other;
  }()));
  for (int layer : {0, 1}) {
    const auto name = [&](int place) { return std::to_string(layer) + "." + std::to_string(place); };
    const auto where = ": layer " + std::to_string(layer) + ": ";
    EXPECT_EQ(with_number(name(2), 0), where + "offset: expected at least 1, found 0");
    EXPECT_EQ(with_number(name(2), 7), where + "rows: expected 7 to 8, found 6");
    EXPECT_EQ(with_number(name(2), 2147483647), where + "rows: expected 8 to 2147483647, found 6");
    EXPECT_EQ(with_number(name(3), 8), where + "keep: expected 0 to 7, found 8");
    EXPECT_EQ(with_number(name(3), -1), where + "keep: expected 0 to 7, found -1");
    EXPECT_EQ(with_number(name(4), -8), where + "max_size: expected a number of tokens, found -8");
    EXPECT_EQ(with_number(name(5), 5), where + "index: expected 6 to 6, found 5");
    EXPECT_EQ(with_number(name(5), -1), where + "index: expected 6 to 6, found -1");
  }
}

TEST_F(PromptCacheFile, refuses_numbers_that_are_none) {
  for (const auto& [name, key, value, expected] :
       {std::tuple("old_rotating_full", "0.1.2", "nan", "layer 1: expected a whole number as '0.1.2', found 'nan'"),
        {"old_rotating_full", "0.0.1", "1e9", "layer 0: expected a whole number as '0.0.1', found '1e9'"},
        {"old_quantized_8", "0.1.0", "99", "layer 1: offset: expected 1 to 8, the rows that it holds, found 99"},
        {"old_quantized_8", "0.0.2", "4", "layer 0: keys: expected scales and biases (1, 2, 8, 2), found (1, 2, 8, 1)"},
        {"old_quantized_8", "0.0.2", "7", "layer 0: [cache] kv-bits: expected 2, 3, 4, 5, 6 or 8, found 7"},
        {"old_quantized_8", "0.0.1", "0", "layer 0: [cache] kv-group-size: expected 32, 64 or 128, found 0"}}) {
    auto bytes = bytes_of(golden_files() / (std::string(name) + ".safetensors"));
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), 8);
    auto header = json::parse(bytes.substr(8, size));
    header["__metadata__"][key] = value;
    const auto text = header.dump();
    const uint64_t length = text.size();
    std::ofstream(file(), std::ios::binary)
        << std::string(reinterpret_cast<const char*>(&length), 8) << text << bytes.substr(8 + size);
    EXPECT_EQ(message_of([&] { load_prompt_cache(file()); }), "[prompt cache] " + file().string() + ": " + expected);
  }
}

TEST_F(PromptCacheFile, refuses_those_of_another_model) {
  const auto refused = [&](const std::string& other) {
    save_prompt_cache(file(), some(), {});
    const auto model = GoldenCase(other).make();
    return message_of([&] { check_prompt_cache(load_prompt_cache(file()).caches, *model, "FILE"); });
  };
  EXPECT_EQ(refused("llama_kv_bits"), "");
  EXPECT_EQ(refused("llama_mqa"), "[prompt cache] FILE: expected the 3 layers of this model, found 2");
  EXPECT_EQ(refused("llama_gqa_head_dim"),
            "[prompt cache] FILE: layer 0: expected 1 text of 2 heads of 24 and 24, as this model has, found 1 text of "
            "2 heads of 64 and 64");
  // Two texts are not one.
  cache::KVCaches two;
  for (int i = 0; i < 2; ++i) {
    auto cache = std::make_unique<cache::GrowingKVCache>(mx::float32);
    const auto x = mx::ones({2, 3, 2, 64});
    cache->update(x, x, 0);
    two.push_back(std::move(cache));
  }
  save_prompt_cache(file(), two, {});
  EXPECT_NE(message_of([&] { check_prompt_cache(load_prompt_cache(file()).caches, *model_, "FILE"); }).find("2 text"),
            std::string::npos);
}

TEST_F(PromptCacheFile, layers_have_read_the_same_tokens) {
  auto caches = some();
  caches[1]->trim(2);
  save_prompt_cache(file(), caches, {});
  EXPECT_EQ(message_of([&] { load_prompt_cache(file()); }),
            "[prompt cache] " + file().string() + ": layer 1: expected 5 tokens, as layer 0 has, found 3");
}

}  // namespace
}  // namespace mlx_lm
