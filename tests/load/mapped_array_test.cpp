#include "mlx_lm/load/mapped_array.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "tests/load/temp_folder.h"

namespace mlx_lm {
namespace {

std::string floats(size_t count, size_t shift) {
  std::string bytes(shift + count * sizeof(float), 'p');
  for (size_t i = 0; i < count; ++i) {
    float value = float(i) + 0.5f;
    std::memcpy(bytes.data() + shift + i * sizeof value, &value, sizeof value);
  }
  return bytes;
}

class MappedArrayTest : public testing::Test {
 protected:
  MappedArrayTest() { mx::set_default_device(mx::Device::cpu); }
  TempFolder folder_;
};

TEST_F(MappedArrayTest, MapsAlignedDataAndCopiesTheRest) {
  for (size_t shift : {0, 8, 16, 17, 18, 20}) {
    auto file = MappedFile::open(folder_.write("f", floats(6, shift)));
    auto array = mapped_array(file, shift, {2, 3}, mx::float32);
    const bool maps = shift >= 8 && shift % 4 == 0;
    EXPECT_EQ(static_cast<const void*>(array.data<float>()) == file->bytes().data() + shift, maps) << shift;
    EXPECT_EQ(array.shape(), (mx::Shape{2, 3}));
    for (int i = 0; i < 6; ++i) EXPECT_EQ(array.data<float>()[i], float(i) + 0.5f);
  }
}

TEST_F(MappedArrayTest, KeepsTheFileAndIsNeverWritten) {
  auto file = MappedFile::open(folder_.write("f", floats(5000, 8)));
  std::weak_ptr<const MappedFile> watch = file;
  {
    auto array = mapped_array(std::move(file), 8, {5000}, mx::float32);
    EXPECT_FALSE(watch.expired());
    // MLX would reuse the memory of an array that nobody else holds, if it were its own: that would end the program.
    auto sum = mx::exp(mx::negative(std::move(array)));
    sum.eval();
    EXPECT_EQ(sum.data<float>()[0], std::exp(-0.5f));
  }
  EXPECT_TRUE(watch.expired());
}

TEST_F(MappedArrayTest, HoldsEmptyArraysAndScalars) {
  auto file = MappedFile::open(folder_.write("f", floats(4, 8)));
  EXPECT_EQ(mapped_array(file, 8, {0, 7}, mx::float32).size(), 0u);
  EXPECT_EQ(mapped_array(file, 24, {0}, mx::float32).size(), 0u);
  EXPECT_EQ(mapped_array(file, 12, {}, mx::float32).item<float>(), 1.5f);
}

}  // namespace
}  // namespace mlx_lm
