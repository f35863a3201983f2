#include "mlx_lm/load/safetensors.h"

#include <cstring>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"

#include "tests/load/temp_folder.h"

namespace mlx_lm {
namespace {

namespace mx = mlx::core;
using nlohmann::json;

std::string file_of(const json& header, std::string_view data) {
  auto text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size).append(text).append(data);
}

json entry(const char* dtype, const std::vector<int64_t>& shape, uint64_t begin, uint64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

// A file with one float of the given value for each name.
std::string floats(const std::vector<std::pair<std::string, float>>& tensors) {
  json header = json::object();
  std::string data;
  for (const auto& [name, value] : tensors) {
    header[name] = entry("F32", {1}, data.size(), data.size() + 4);
    data.append(reinterpret_cast<const char*>(&value), 4);
  }
  return file_of(header, data);
}

std::string index_of(const json& weight_map) { return json{{"metadata", {}}, {"weight_map", weight_map}}.dump(); }

class SafetensorsTest : public testing::Test {
 protected:
  SafetensorsTest() { mx::set_default_device(mx::Device::cpu); }

  std::map<std::string, nn::StoredTensor> load() { return safetensors_tensors(folder_.path()); }
  float value(const std::string& name) { return load().at(name).read().item<float>(); }

  // The error's text.
  template <class E = WeightError>
  std::string refused() {
    try {
      load();
    } catch (const E& error) {
      return error.what();
    }
    ADD_FAILURE() << "expected an error";
    return "";
  }

  TempFolder folder_;
};

TEST_F(SafetensorsTest, ReadsEveryTypeThatMlxHas) {
  json header = json::object();
  std::string data;
  const std::vector<std::tuple<const char*, mx::Dtype>> types = {
      {"U64", mx::uint64}, {"I64", mx::int64},   {"F32", mx::float32},   {"U32", mx::uint32},
      {"I32", mx::int32},  {"F16", mx::float16}, {"BF16", mx::bfloat16}, {"U16", mx::uint16},
      {"I16", mx::int16},  {"U8", mx::uint8},    {"I8", mx::int8},       {"BOOL", mx::bool_}};
  for (auto [name, dtype] : types) {
    size_t size = 6 * dtype.size();
    header[name] = entry(name, {2, 3}, data.size(), data.size() + size);
    for (size_t i = 0; i < size; ++i) data += char(i % dtype.size() == 0 ? 1 : 0);
  }
  folder_.write("model.safetensors", file_of(header, data));
  auto tensors = load();
  ASSERT_EQ(tensors.size(), types.size());
  for (auto [name, dtype] : types) {
    auto array = tensors.at(name).read();
    EXPECT_EQ(tensors.at(name).dtype, dtype);
    EXPECT_EQ(array.dtype(), dtype);
    EXPECT_EQ(array.shape(), (mx::Shape{2, 3}));
    if (mx::issubdtype(dtype, mx::integer)) {
      EXPECT_EQ(mx::sum(mx::astype(array, mx::int32)).item<int>(), 6) << name;
    }
  }
}

TEST_F(SafetensorsTest, TakesEveryModelFileWithoutAnIndex) {
  folder_.write("model-2.safetensors", floats({{"b", 2}}));
  folder_.write("model-1.safetensors", floats({{"a", 1}}));
  folder_.write("adapters.safetensors", floats({{"c", 3}}));
  folder_.write("model.bin", "x");
  EXPECT_EQ(load().size(), 2u);
  EXPECT_EQ(value("a"), 1);
  EXPECT_EQ(value("b"), 2);
  folder_.write("model.safetensors", floats({{"a", 4}}));
  EXPECT_NE(refused().find("several"), std::string::npos);
}

TEST_F(SafetensorsTest, NeedsAFile) {
  EXPECT_NE(refused().find("expected model*.safetensors, found none"), std::string::npos);
  folder_.write("weights.safetensors", floats({{"a", 1}}));
  refused();
  EXPECT_THROW(safetensors_tensors(folder_.path() / "nowhere"), WeightError);
}

TEST_F(SafetensorsTest, FollowsTheIndex) {
  folder_.write("model-1.safetensors", floats({{"a", 1}, {"extra", 7}}));
  folder_.write("model-2.safetensors", floats({{"b", 2}}));
  folder_.write("model-old.safetensors", floats({{"a", 9}}));
  folder_.write("model.safetensors.index.json", index_of({{"a", "model-1.safetensors"}, {"b", "model-2.safetensors"}}));
  EXPECT_EQ(value("a"), 1);
  EXPECT_EQ(value("b"), 2);
  EXPECT_EQ(value("extra"), 7);  // strict loading judges it
}

TEST_F(SafetensorsTest, RefusesAnIndexThatIsWrong) {
  folder_.write("model-1.safetensors", floats({{"a", 1}}));
  folder_.write("model-2.safetensors", floats({{"b", 2}}));
  auto index = [&](const json& map) { folder_.write("model.safetensors.index.json", index_of(map)); };
  index({{"a", "model-2.safetensors"}, {"b", "model-2.safetensors"}});
  refused();
  index({{"a", "model-2.safetensors"}, {"b", "model-1.safetensors"}});
  refused();
  index({{"a", "model-1.safetensors"}, {"c", "model-1.safetensors"}});
  EXPECT_NE(refused().find("c: expected in model-1.safetensors"), std::string::npos);
  index({{"a", "model-1.safetensors"}, {"b", "model-3.safetensors"}});
  EXPECT_NE(refused().find("expected model-3.safetensors"), std::string::npos);
  index({{"a", 1}});
  refused();
  index({{"a", "model-1.bin"}});
  refused();
  index({{"a", ""}});
  refused();
  for (const char* text :
       {"", "{", "[]", "null", "{}", R"({"weight_map": []})", R"({"weight_map": null})", "\xff\xfe"}) {
    folder_.write("model.safetensors.index.json", text);
    refused();
  }
  folder_.write("model.safetensors.index.json", std::string(100000, '['));
  refused();
}

TEST_F(SafetensorsTest, RefusesShardsOutsideTheFolder) {
  TempFolder other;
  other.write("model.safetensors", floats({{"a", 1}}));
  folder_.write("model-1.safetensors", floats({{"b", 1}}));
  for (const std::string& name : {"../" + other.path().filename().string() + "/model.safetensors",
                                  (other.path() / "model.safetensors").string()}) {
    folder_.write("model.safetensors.index.json", index_of({{"a", name}}));
    refused<Error>();
  }
  std::filesystem::remove(folder_.path() / "model.safetensors.index.json");
  std::filesystem::create_symlink(other.path() / "model.safetensors", folder_.path() / "model-2.safetensors");
  EXPECT_NE(refused<Error>().find("model-2.safetensors"), std::string::npos);
}

TEST_F(SafetensorsTest, PassesOverAStaleIndex) {
  folder_.write("model.safetensors", floats({{"a", 1}}));
  folder_.write("model.safetensors.index.json", index_of({{"a", "model-00001-of-00002.safetensors"}}));
  EXPECT_EQ(value("a"), 1);
}

TEST_F(SafetensorsTest, RefusesForeignTypesOnlyWhenTheyAreRead) {
  folder_.write("model.safetensors", file_of({{"a", entry("F8_E5M2", {2}, 0, 2)}}, "xx"));
  auto tensors = load();
  try {
    tensors.at("a").read();
    ADD_FAILURE();
  } catch (const UnsupportedModel& error) {
    EXPECT_NE(std::string(error.what()).find("F8_E5M2"), std::string::npos);
  }
  folder_.write("model.safetensors", file_of({{"a", entry("F64", {1}, 0, 8)}}, "12345678"));
  EXPECT_THROW(load().at("a").read(), UnsupportedModel);
}

TEST_F(SafetensorsTest, RefusesSizesThatDoNotFit) {
  for (auto shape : {std::vector<int64_t>{3},
                     {1, 1, 1},
                     {-1},
                     {int64_t(1) << 31, 0},
                     {int64_t(1) << 62},
                     {int64_t(1) << 40, int64_t(1) << 40},
                     {65536, 65536, 65536, 65536}}) {
    folder_.write("model.safetensors", file_of({{"a", entry("F32", shape, 0, 8)}}, "12345678"));
    refused();
  }
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  auto whole = floats({{"a", 1}, {"b", 2}});
  for (size_t size = 0; size < whole.size(); ++size) {
    folder_.write("model.safetensors", whole.substr(0, size));
    refused();
  }
}

TEST_F(SafetensorsTest, ReadsOddlyPlacedAndEmptyTensors) {
  float number = 2.5f;
  std::string data = "x";
  data.append(reinterpret_cast<const char*>(&number), 4);
  folder_.write(
      "model.safetensors",
      file_of({{"byte", entry("U8", {1}, 0, 1)}, {"odd", entry("F32", {}, 1, 5)}, {"none", entry("F32", {0, 4}, 5, 5)}},
              data));
  EXPECT_EQ(value("odd"), 2.5f);
  EXPECT_EQ(load().at("none").read().size(), 0u);
}

}  // namespace
}  // namespace mlx_lm
