// A header is what a stranger wrote: every number at its limits, every piece missing, twice or of another kind.
#include "mlx_lm/hub/safetensors_header.h"

#include <chrono>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

std::string file(const std::string& json, size_t data = 0) {
  const uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + json + std::string(data, 'd');
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& begin,
                  const std::string& end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, dtype, shape, begin, end);
}

std::vector<TensorInfo> read(const std::string& bytes, std::map<std::string, std::string>* metadata = nullptr) {
  // Exactly as long as the file, on the heap: a read beyond its end is seen by AddressSanitizer.
  std::vector<std::byte> copy(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
  return read_safetensors_header(copy, "m.safetensors", metadata);
}

// The error's text, one line, within a second.
std::string refused(const std::string& bytes) {
  const auto start = std::chrono::steady_clock::now();
  try {
    read(bytes);
  } catch (const WeightError& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find("[safetensors] m.safetensors: "), 0u) << text;
    EXPECT_EQ(text.find('\n'), text.npos) << text;
    EXPECT_LT(text.size(), 600u);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    return text.substr(29);
  }
  ADD_FAILURE() << "expected an error, found none: " << bytes.substr(0, 300);
  return "";
}

TEST(SafetensorsHeader, Reads) {
  const auto json = "{\"__metadata__\":{\"format\":\"mlx\"}," + entry("b", "BF16", "[2,3]", "4", "16") + "," +
                    entry("a", "F32", "[]", "0", "4") + "," + entry("none", "F16", "[0,7]", "16", "16") + "}   ";
  std::map<std::string, std::string> metadata;
  const auto tensors = read(file(json, 16), &metadata);
  ASSERT_EQ(tensors.size(), 3u);
  const uint64_t start = 8 + json.size();
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, "F32");
  EXPECT_EQ(tensors[0].shape, std::vector<int64_t>{});
  EXPECT_EQ(tensors[0].begin, start);
  EXPECT_EQ(tensors[0].end, start + 4);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors[1].end, start + 16);
  EXPECT_EQ(tensors[2].shape, (std::vector<int64_t>{0, 7}));
  EXPECT_EQ(tensors[2].begin, tensors[2].end);
  EXPECT_EQ(metadata, (std::map<std::string, std::string>{{"format", "mlx"}}));
  EXPECT_EQ(read(file("{}")).size(), 0u);
}

TEST(SafetensorsHeader, EveryDtype) {
  for (auto [dtype, bytes] : std::vector<std::pair<std::string, int>>{{"BOOL", 1},
                                                                      {"U8", 1},
                                                                      {"I8", 1},
                                                                      {"F8_E5M2", 1},
                                                                      {"F8_E4M3", 1},
                                                                      {"F8_E8M0", 1},
                                                                      {"I16", 2},
                                                                      {"U16", 2},
                                                                      {"F16", 2},
                                                                      {"BF16", 2},
                                                                      {"I32", 4},
                                                                      {"U32", 4},
                                                                      {"F32", 4},
                                                                      {"F64", 8},
                                                                      {"I64", 8},
                                                                      {"U64", 8},
                                                                      {"C64", 8}}) {
    const auto size = std::to_string(3 * bytes);
    const auto tensors = read(file("{" + entry("a", dtype, "[3]", "0", size) + "}", 3 * bytes));
    ASSERT_EQ(tensors.size(), 1u);
    EXPECT_EQ(tensors[0].dtype, dtype);
    const auto text = refused(file("{" + entry("a", dtype, "[4]", "0", size) + "}", 3 * bytes));
    EXPECT_EQ(text, "tensor a: its data_offsets span another number of bytes than its shape and dtype need");
  }
  for (std::string dtype : {"", "F31", "f32", "float32", "F32 ", "Q4_0"}) {
    EXPECT_NE(refused(file("{" + entry("a", dtype, "[1]", "0", "4") + "}", 4)).find("header: unknown variant"),
              std::string::npos);
  }
  // Half a byte each: four make two bytes, three make none.
  EXPECT_EQ(read(file("{" + entry("a", "F4", "[4]", "0", "2") + "}", 2)).size(), 1u);
  EXPECT_EQ(refused(file("{" + entry("a", "F4", "[3]", "0", "2") + "}", 2)).find("tensor a: its data_offsets"), 0u);
}

TEST(SafetensorsHeader, Lengths) {
  const auto good = file("{" + entry("a", "F32", "[1]", "0", "4") + "}", 4);
  for (size_t size = 0; size < 8; size++) {
    EXPECT_EQ(refused(good.substr(0, size)), fmt::format("expected at least 8 bytes, found {}", size));
  }
  for (size_t size = 8; size < good.size(); size++) refused(good.substr(0, size));
  EXPECT_NE(refused(good + "x").find("is it cut off?"), std::string::npos);
  EXPECT_NE(refused(good.substr(0, good.size() - 1)).find("is it cut off?"), std::string::npos);
  const uint64_t true_size = good.size() - 12;
  for (uint64_t size : {uint64_t(0), uint64_t(1), true_size - 1, true_size + 5, uint64_t(100'000'000),
                        uint64_t(100'000'001), uint64_t(1) << 32, uint64_t(1) << 63,
                        std::numeric_limits<uint64_t>::max() - 7, std::numeric_limits<uint64_t>::max()}) {
    auto bytes = good;
    std::memcpy(bytes.data(), &size, 8);
    const auto text = refused(bytes);
    if (size > 100'000'000) {
      EXPECT_EQ(text, "expected a header of at most 100000000 bytes, found a larger one");
    }
    if (size == 100'000'000) {
      EXPECT_EQ(text, fmt::format("expected a header of 100000000 bytes, found only {} in the file", good.size() - 8));
    }
  }
}

TEST(SafetensorsHeader, Offsets) {
  const std::string kMax = "18446744073709551615";
  const auto one = [](const std::string& begin, const std::string& end) {
    return file("{" + entry("a", "F32", "[1]", begin, end) + "}", 4);
  };
  EXPECT_EQ(read(one("0", "4")).size(), 1u);
  for (auto [begin, end] :
       std::vector<std::pair<std::string, std::string>>{{"0", "0"},
                                                        {"0", "3"},
                                                        {"0", "5"},
                                                        {"1", "5"},
                                                        {"4", "8"},
                                                        {"4", "0"},
                                                        {"4", "4"},
                                                        {"0", kMax},
                                                        {kMax, "4"},
                                                        {kMax, kMax},
                                                        {"18446744073709551612", "0"},
                                                        {"9223372036854775808", "9223372036854775812"},
                                                        {"-1", "3"},
                                                        {"0", "-4"},
                                                        {"-4", "0"},
                                                        {"0", "18446744073709551616"},
                                                        {"0.0", "4.0"},
                                                        {"0", "4e0"},
                                                        {"\"0\"", "\"4\""},
                                                        {"null", "4"},
                                                        {"[0]", "4"},
                                                        {"true", "4"}}) {
    refused(one(begin, end));
  }
  for (std::string offsets : {"[]", "[0]", "[0,4,4]", "4", "null", "{}"}) {
    refused(file("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" + offsets + "}}", 4));
  }
}

TEST(SafetensorsHeader, GapsAndOverlaps) {
  const auto two = [](int begin_a, int end_a, int begin_b, int end_b, size_t data) {
    const auto item = [](const char* name, int begin, int end) {
      return entry(name, "U8", fmt::format("[{}]", end - begin), std::to_string(begin), std::to_string(end));
    };
    return file("{" + item("a", begin_a, end_a) + "," + item("b", begin_b, end_b) + "}", data);
  };
  EXPECT_EQ(read(two(0, 4, 4, 8, 8)).size(), 2u);
  EXPECT_EQ(read(two(4, 8, 0, 4, 8)).size(), 2u);
  const std::string text = "its data_offsets leave a gap, overlap another tensor or run backwards";
  EXPECT_EQ(refused(two(0, 4, 0, 4, 4)).substr(8), ": " + text);  // either may be the second
  EXPECT_EQ(refused(two(0, 4, 3, 8, 8)), "tensor b: " + text);
  EXPECT_EQ(refused(two(0, 8, 2, 4, 8)), "tensor b: " + text);
  EXPECT_EQ(refused(two(0, 4, 5, 8, 8)), "tensor b: " + text);
  EXPECT_EQ(refused(two(1, 4, 4, 8, 8)), "tensor a: " + text);
}

TEST(SafetensorsHeader, Shapes) {
  const auto shaped = [](const std::string& shape, const std::string& dtype = "U8", const std::string& end = "4") {
    return file("{" + entry("a", dtype, shape, "0", end) + "}", std::stoi(end));
  };
  EXPECT_EQ(read(shaped("[1,1,1,1,1,1,2,2]"))[0].shape.size(), 8u);
  EXPECT_EQ(refused(shaped("[1,1,1,1,1,1,1,2,2]")), "tensor a: expected at most 8 dimensions, found 9");
  for (std::string shape : {"[3]",
                            "[5]",
                            "[0]",
                            "[]",
                            "[-4]",
                            "[2,-2]",
                            "[-2,-2]",
                            "[4.0]",
                            "[\"4\"]",
                            "[null]",
                            "[[4]]",
                            "4",
                            "null",
                            "{}",
                            "[18446744073709551615]",
                            "[18446744073709551616]",
                            "[9223372036854775808]",
                            "[4,18446744073709551615]",
                            "[4611686018427387905,4]",
                            "[4294967296,4294967296]",
                            "[2,9223372036854775810]"}) {
    refused(shaped(shape));
  }
  // So many elements that their bits, not their number, overflow; and the tensor that is wrong is named.
  const std::string size = "its data_offsets span another number of bytes than its shape and dtype need";
  EXPECT_EQ(refused(shaped("[2305843009213693952]", "F64", "0")), "tensor a: " + size);
  EXPECT_EQ(refused(file("{" + entry("a", "U8", "[2]", "0", "2") + "," + entry("b", "U8", "[3]", "2", "4") + "}", 4)),
            "tensor b: " + size);
  // 0 times what does not fit in a signed 64-bit number.
  EXPECT_EQ(refused(shaped("[0,18446744073709551615]", "U8", "0")), "tensor a: a size is above 2^63");
  refused(shaped("[" + std::string(100'000, '1') + "]"));
  std::string long_shape = "[1";
  for (int i = 0; i < 100'000; i++) long_shape += ",1";
  refused(shaped(long_shape + "]", "U8", "1"));
}

TEST(SafetensorsHeader, Keys) {
  const auto a = entry("a", "U8", "[1]", "0", "1");
  EXPECT_EQ(refused(file("{" + a + "," + a + "}", 1)), "tensor a: expected once, found twice");
  EXPECT_EQ(refused(file("{" + a + "," + entry("\\u0061", "U8", "[1]", "1", "2") + "}", 2)),
            "tensor a: expected once, found twice");
  for (std::string json :
       {R"({"a":{}})", R"({"a":{"dtype":"U8","shape":[1]}})", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})",
        R"({"a":{"shape":[1],"data_offsets":[0,1]}})", R"({"a":null})", R"({"a":[]})", R"({"a":1})",
        R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})", R"({"__metadata__":1})", R"({"__metadata__":{"a":1}})",
        R"({"__metadata__":{"a":{"b":"c"}}})", R"({"__metadata__":["a"]})"}) {
    EXPECT_EQ(refused(file(json, 1)).find("header: "), 0u) << json;
  }
  // A name may be anything, also what looks like a path; in an error it is one bounded line.
  EXPECT_EQ(read(file("{" + entry("../a\\n\\u0000", "U8", "[1]", "0", "1") + "}", 1))[0].name,
            std::string("../a\n\0", 6));
  const auto text = refused(file("{" + entry(std::string(5000, 'n') + "\\n", "U8", "[1]", "1", "2") + "}", 2));
  EXPECT_EQ(text.find("tensor " + std::string(200, 'n') + "...: "), 0u);
}

TEST(SafetensorsHeader, Json) {
  for (std::string json : {"", " ", "null", "[]", "1", "\"a\"", "{", "}", "{]", "{\"a\"}", "{\"a\":}", "{,}", "{}{}",
                           "{} x", "\xff", "{\"\xff\":1}", "{'a':1}", "\xef\xbb\xbf{}", "NaN"}) {
    refused(file(json));
  }
  EXPECT_EQ(refused(file(std::string("{\"a\xff\":1}"))), "header: not UTF-8 at byte 3");
  for (std::string open : {"[", "{\"a\":", "{\"__metadata__\":{\"a\":[", "{\"a\":{\"shape\":["}) {
    std::string deep;
    for (int i = 0; i < 200'000; i++) deep += open;
    refused(file(deep));
  }
  refused(file("{\"a\":" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}"));
}

TEST(SafetensorsHeader, ManyTensors) {
  std::string json = "{";
  const int count = 50'000;
  for (int i = 0; i < count; i++) {
    json += (i ? "," : "") + entry("t" + std::to_string(i), "U8", "[1]", std::to_string(i), std::to_string(i + 1));
  }
  json += "}";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(read(file(json, count)).size(), size_t(count));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_EQ(
      read(file("{\"" + std::string(5'000'000, ' ') + "\":" + R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"))
          .size(),
      1u);
}

// Any single damaged byte of the header gives an error or another valid header, never a place outside of the file.
TEST(SafetensorsHeader, EveryByteDamaged) {
  const auto good = file("{\"__metadata__\":{\"a\":\"b\"}," + entry("x", "F32", "[2,3]", "0", "24") + "," +
                             entry("y", "U8", "[8]", "24", "32") + "}",
                         32);
  int accepted = 0;
  for (size_t at = 0; at < good.size() - 32; at++) {
    for (int value = 0; value < 256; value++) {
      auto bytes = good;
      bytes[at] = static_cast<char>(value);
      try {
        for (const auto& tensor : read(bytes)) {
          ASSERT_LE(tensor.begin, tensor.end);
          ASSERT_LE(tensor.end, bytes.size());
        }
        accepted++;
      } catch (const WeightError&) {
      }
    }
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace mlx_lm
