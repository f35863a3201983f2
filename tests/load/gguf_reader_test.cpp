#include "mlx_lm/load/gguf_reader.h"

#include <limits>

#include <gtest/gtest.h>

#include "tests/load/gguf_writer.h"
#include "tests/load/temp_folder.h"

namespace mlx_lm {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kHostile[] = {kMax, kMax - 7, uint64_t(1) << 63, uint64_t(1) << 61, uint64_t(1) << 32, 1000000};

class GgufReaderTest : public testing::Test {
 protected:
  std::shared_ptr<const GgufFile> open(const std::string& bytes) {
    return GgufFile::open(folder_.write("m.gguf", bytes));
  }
  std::shared_ptr<const GgufFile> open(const GgufWriter& writer) { return open(writer.build()); }

  // The error's text.
  std::string refused(const std::string& bytes) {
    try {
      open(bytes);
    } catch (const WeightError& error) {
      EXPECT_NE(std::string(error.what()).find("[gguf] "), std::string::npos) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "expected a WeightError";
    return "";
  }
  std::string refused(const GgufWriter& writer) { return refused(writer.build()); }

  TempFolder folder_;
};

GgufWriter small() {
  GgufWriter w;
  w.add("name", "a model").add("count", uint32_t(7)).add("rate", 0.5f).add("yes", true);
  w.add("words", std::vector<std::string>{"one", "", "three"});
  w.add_array<int32_t>("numbers", 5, {1, -2, 3}).add_array<float>("scores", 6, {0.5f, -1});
  w.add_f32("a.weight", {3, 2}, {1, 2, 3, 4, 5, 6}).add_f32("b", {4}, {1, 2, 3, 4});
  return w;
}

TEST_F(GgufReaderTest, ReadsMetadataAndTensors) {
  for (uint32_t version : {2, 3}) {
    auto w = small();
    w.version = version;
    auto file = open(w);
    EXPECT_EQ(file->find_string("name"), "a model");
    EXPECT_EQ(file->find_int("count"), 7);
    EXPECT_EQ(file->find_float("count"), 7.0);
    EXPECT_EQ(file->find_float("rate"), 0.5);
    EXPECT_EQ(file->find_bool("yes"), true);
    EXPECT_EQ(file->find_strings("words"), (std::vector<std::string_view>{"one", "", "three"}));
    EXPECT_EQ(file->find_ints("numbers"), (std::vector<int64_t>{1, -2, 3}));
    EXPECT_EQ(file->find_ints("count"), (std::vector<int64_t>{7}));
    EXPECT_EQ(file->find_floats("scores"), (std::vector<float>{0.5f, -1}));
    EXPECT_EQ(file->find_int("absent"), std::nullopt);
    EXPECT_FALSE(file->has("absent"));
    ASSERT_EQ(file->tensors().size(), 2u);
    const auto* a = file->find_tensor("a.weight");
    ASSERT_NE(a, nullptr);
    EXPECT_EQ(a->shape, (std::vector<int32_t>{2, 3}));
    EXPECT_EQ(a->bytes, 24u);
    EXPECT_EQ(a->offset % 32, 0u);
    EXPECT_EQ(file->find_tensor("c"), nullptr);
  }
}

TEST_F(GgufReaderTest, NamesTheKeyThatHasAnotherType) {
  auto file = open(small());
  EXPECT_THROW(file->find_int("name"), WeightError);
  EXPECT_THROW(file->find_int("rate"), WeightError);
  EXPECT_THROW(file->find_int("numbers"), WeightError);
  EXPECT_THROW(file->find_bool("count"), WeightError);
  EXPECT_THROW(file->find_string("words"), WeightError);
  EXPECT_THROW(file->find_string("count"), WeightError);
  EXPECT_THROW(file->find_strings("name"), WeightError);
  EXPECT_THROW(file->find_strings("numbers"), WeightError);
  EXPECT_THROW(file->find_ints("words"), WeightError);
  EXPECT_THROW(file->find_ints("scores"), WeightError);
  EXPECT_THROW(file->find_floats("words"), WeightError);
  auto big = open(GgufWriter().add_raw("n", 10, GgufWriter::raw(kMax)));
  EXPECT_THROW(big->find_int("n"), WeightError);
}

TEST_F(GgufReaderTest, RefusesEveryTruncation) {
  auto w = small();
  auto whole = w.build();
  for (size_t size = 1; size < whole.size(); ++size) EXPECT_NE(refused(whole.substr(0, size)), "") << size;
}

TEST_F(GgufReaderTest, SurvivesEveryByteFlipped) {
  auto header = small().header(), whole = small().build();
  for (size_t at = 0; at < header.size(); ++at) {
    for (int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      auto bytes = whole;
      bytes[at] = char(value);
      try {
        auto file = open(bytes);
        for (const char* key : {"name", "words", "numbers", "scores"}) {
          try {
            file->find_strings(key);
            file->find_ints(key);
            file->find_floats(key);
          } catch (const WeightError&) {
          }
        }
      } catch (const WeightError&) {
      }
    }
  }
}

TEST_F(GgufReaderTest, RefusesOtherFilesAndVersions) {
  auto w = small();
  w.magic = 0x46554746;
  refused(w);
  for (uint32_t version : {0u, 1u, 4u, 0xffffffffu}) {
    w = small();
    w.version = version;
    refused(w);
  }
  w.version = 0x03000000;
  EXPECT_NE(refused(w).find("big-endian"), std::string::npos);
}

TEST_F(GgufReaderTest, RefusesCountsThatTheFileCannotHold) {
  for (uint64_t n : kHostile) {
    auto w = small();
    w.key_count = n;
    refused(w);
    w = small();
    w.tensor_count = n;
    refused(w);
    refused(GgufWriter().add_raw("k", 8, GgufWriter::raw(n) + "abc"));
    for (uint32_t kind : {0, 4, 6, 7, 8, 9, 10}) {
      std::string value = GgufWriter::raw(kind) + GgufWriter::raw(n);
      refused(GgufWriter().add_raw("k", 9, value.append("abcdefghijkl")));
    }
    refused(GgufWriter::raw(uint32_t(0x46554747)) + GgufWriter::raw(uint32_t(3)) + GgufWriter::raw(uint64_t(0)) +
            GgufWriter::raw(uint64_t(1)) + GgufWriter::raw(n) + "key");
  }
  // More pairs than the metadata holds: what follows is read as one, and is none.
  auto w = small();
  w.key_count = 8;
  refused(w);
}

TEST_F(GgufReaderTest, RefusesBadPairs) {
  refused(GgufWriter().add("", "empty"));
  refused(GgufWriter().add(std::string(65536, 'k'), "long"));
  refused(GgufWriter().add("k", "twice").add("k", uint32_t(2)));
  refused(GgufWriter().add_raw("k", 13, "12345678"));
  refused(GgufWriter().add_raw("k", 0xffffffff, "12345678"));
  refused(GgufWriter().add_raw("k", 7, "\x02"));
  EXPECT_EQ(refused(GgufWriter().add(std::string("k\n\x1b[31m"), "x").add_raw("k\n\x1b[31m", 8, GgufWriter::text("y")))
                .find('\n'),
            std::string::npos);
}

TEST_F(GgufReaderTest, RefusesDeeplyNestedArrays) {
  auto nested = [](int depth) {
    std::string value = GgufWriter::raw(uint32_t(0)) + GgufWriter::raw(uint64_t(1)) + "x";
    for (int i = 1; i < depth; ++i) value = GgufWriter::raw(uint32_t(9)) + GgufWriter::raw(uint64_t(1)) + value;
    return GgufWriter().add_raw("k", 9, value);
  };
  auto two = open(nested(2));
  EXPECT_THROW(two->find_ints("k"), WeightError);
  EXPECT_THROW(two->find_strings("k"), WeightError);
  for (int depth : {6, 100, 2000}) EXPECT_NE(refused(nested(depth)).find("nested"), std::string::npos);
}

TEST_F(GgufReaderTest, RefusesBadDimensions) {
  for (uint32_t count : {0u, 5u, 8u, 9u, 0xffffffffu}) {
    auto w = small();
    w.tensors[0].dimension_count = count;
    refused(w);
  }
  for (uint64_t n : {uint64_t(0), uint64_t(1) << 31, uint64_t(1) << 32, uint64_t(1) << 63, kMax}) {
    for (size_t i : {0, 1}) {
      auto w = small();
      w.tensors[0].dimensions[i] = n;
      refused(w);
    }
  }
  auto w = small();
  uint64_t big = (uint64_t(1) << 31) - 1;
  w.tensors[0].dimensions = {big, big, big, big};
  refused(w);
  w.tensors[0].dimensions = {big, big, 4};  // the product fits into 64 bits, the bytes do not
  refused(w);
  w.tensors[0].dimensions = {3, 3};  // past the end
  w.tensors.resize(1);
  refused(w);
}

TEST_F(GgufReaderTest, RefusesBadTypes) {
  for (uint32_t type : {4u, 5u, 31u, 38u, 41u, 1000u, 0xffffffffu}) {
    auto w = small();
    w.tensors[0].type = type;
    EXPECT_NE(refused(w).find("unknown tensor type"), std::string::npos);
  }
  auto w = small();
  w.tensors[0].type = 2;  // rows of 3 do not divide into blocks
  EXPECT_NE(refused(w).find("multiple of 32"), std::string::npos);
}

TEST_F(GgufReaderTest, RefusesBadOffsetsAndOverlaps) {
  for (uint64_t offset : {uint64_t(1), uint64_t(31), uint64_t(64), uint64_t(4096), uint64_t(1) << 40, kMax, kMax - 31,
                          (uint64_t(1) << 63)}) {
    auto w = small();
    w.tensors[1].offset = offset;
    refused(w);
  }
  auto w = small();
  w.tensors[1].offset = 0;
  EXPECT_NE(refused(w).find("overlap"), std::string::npos);
  w = small();
  w.tensors[1].name = "a.weight";
  EXPECT_NE(refused(w).find("twice"), std::string::npos);
  w = small();
  w.tensors[1].name = "";
  refused(w);
}

TEST_F(GgufReaderTest, RefusesBadAlignments) {
  for (uint32_t n : {0u, 1u, 2u, 4u, 7u, 24u, 33u, 131072u, 0x80000000u, 0xffffffffu}) {
    EXPECT_NE(refused(small().add("general.alignment", n)).find("general.alignment"), std::string::npos);
  }
  refused(small().add("general.alignment", "32"));
  auto w = small().add("general.alignment", uint32_t(64));
  w.alignment = 64;
  EXPECT_EQ(open(w)->tensors()[1].offset % 64, 0u);
}

TEST_F(GgufReaderTest, OpensAFileWithoutTensors) {
  EXPECT_TRUE(open(GgufWriter())->tensors().empty());
  EXPECT_TRUE(open(GgufWriter().add("k", "v"))->has("k"));
}

}  // namespace
}  // namespace mlx_lm
