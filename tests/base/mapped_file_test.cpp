#include "mlx_lm/base/mapped_file.h"

#include <sys/stat.h>

#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;

class MappedFileTest : public testing::Test {
 protected:
  MappedFileTest() {
    std::string name = (fs::temp_directory_path() / "mlx_lm_map_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~MappedFileTest() override { fs::remove_all(folder_); }

  fs::path write(const std::string& bytes) const {
    std::ofstream(folder_ / "file", std::ios::binary) << bytes;
    return folder_ / "file";
  }

  fs::path folder_;
};

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST_F(MappedFileTest, ShowsTheBytesAndOutlivesTheName) {
  auto path = write("some bytes");
  auto file = MappedFile::open(path);
  EXPECT_EQ(text_of(*file), "some bytes");
  EXPECT_EQ(file->path(), path);
  fs::remove(path);
  EXPECT_EQ(text_of(*file), "some bytes");
}

TEST_F(MappedFileTest, ReadsReleasedPagesAgain) {
  std::string bytes(3 * 4096 + 100, 'x');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = char(i * 7);
  auto file = MappedFile::open(write(bytes));
  for (auto [offset, size] : {std::pair<size_t, size_t>{0, bytes.size()},
                              {1, 5000},
                              {4096, 8192},
                              {5000, 0},
                              {bytes.size(), 1},
                              {size_t(-1), 7},
                              {100, size_t(-1)}}) {
    file->release(offset, size);
    EXPECT_EQ(text_of(*file), bytes);
  }
}

TEST_F(MappedFileTest, RefusesWhatIsNotAFileWithData) {
  EXPECT_THROW(MappedFile::open(folder_ / "nothing"), WeightError);
  EXPECT_THROW(MappedFile::open(folder_), WeightError);
  EXPECT_THROW(MappedFile::open(write("")), WeightError);
  EXPECT_THROW(MappedFile::open(write("x") / "below"), WeightError);
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(MappedFile::open(folder_ / "pipe"), WeightError);  // and does not wait for a writer
  EXPECT_THROW(MappedFile::open("/dev/null"), WeightError);
}

}  // namespace
}  // namespace mlx_lm
