#include "mlx_lm/load/model_files.h"

#include <sys/stat.h>

#include <string>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/load/temp_folder.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;

TEST(FindFile, FindsFilesAndMissesOthers) {
  TempFolder folder;
  folder.write("config.json", "{}");
  folder.write("sub/file", "x");
  EXPECT_EQ(find_file(folder.path(), "config.json"), folder.path() / "config.json");
  EXPECT_EQ(find_file(folder.path(), "sub/file"), folder.path() / "sub/file");
  EXPECT_EQ(find_file(folder.path(), "nothing"), std::nullopt);
  EXPECT_EQ(find_file(folder.path() / "nowhere", "config.json"), std::nullopt);
  EXPECT_EQ(find_file(folder.path(), "config.json/below"), std::nullopt);
}

TEST(FindFile, RefusesNamesThatLeaveTheFolder) {
  TempFolder folder;
  folder.write("outside", "secret");
  folder.write("model/inside", "x");
  const auto model = folder.path() / "model";
  for (std::string_view name : {std::string_view("../outside"), std::string_view("a/../../outside"),
                                std::string_view("/etc/passwd"), std::string_view(".."), std::string_view(""),
                                std::string_view("inside\0x", 8), std::string_view("inside/..")}) {
    EXPECT_THROW(find_file(model, name), Error) << name;
  }
  EXPECT_THROW(find_file(model, std::string(5000, 'a')), Error);
}

TEST(FindFile, FollowsLinksThatStay) {
  TempFolder folder;
  folder.write("outside", "secret");
  folder.write("model/real", "x");
  folder.write("other/real", "x");
  const auto model = folder.path() / "model";
  fs::create_symlink("real", model / "alias");
  fs::create_symlink("../outside", model / "escape");
  fs::create_symlink("/etc/passwd", model / "absolute");
  fs::create_symlink("escape", model / "chain");
  fs::create_symlink("../other", model / "folder");
  fs::create_symlink("nothing", model / "broken");
  fs::create_symlink("loop", model / "loop");
  EXPECT_EQ(find_file(model, "alias"), model / "alias");
  for (const char* name : {"escape", "absolute", "chain", "folder/real", "broken", "loop"}) {
    try {
      find_file(model, name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos);
    }
  }
  // The folder itself may be reached by a link.
  fs::create_symlink(model, folder.path() / "link");
  EXPECT_EQ(find_file(folder.path() / "link", "real"), folder.path() / "link" / "real");
  // A folder whose name begins like this one's is another folder.
  folder.write("model2/file", "x");
  fs::create_symlink("../model2/file", model / "sibling");
  EXPECT_THROW(find_file(model, "sibling"), Error);
}

TEST(FindFile, FollowsTheLinksOfTheHubsCache) {
  TempFolder cache;
  cache.write("models--x/blobs/abc", "x");
  cache.write("models--y/blobs/abc", "x");
  const auto snapshot = cache.path() / "models--x/snapshots/123";
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/abc", snapshot / "config.json");
  fs::create_symlink("../../../models--y/blobs/abc", snapshot / "other.json");
  fs::create_symlink("../../blobs", snapshot / "blobs");
  EXPECT_EQ(find_file(snapshot, "config.json"), snapshot / "config.json");
  EXPECT_THROW(find_file(snapshot, "other.json"), Error);
  EXPECT_THROW(find_file(snapshot, "blobs"), Error);
  // Only there: a `blobs` beside any other folder means nothing.
  const auto plain = cache.path() / "models--x/plain/123";
  fs::create_directories(plain);
  fs::create_symlink("../../blobs/abc", plain / "config.json");
  EXPECT_THROW(find_file(plain, "config.json"), Error);
}

TEST(FindFile, RefusesWhatIsNotAFile) {
  TempFolder folder;
  fs::create_directory(folder.path() / "config.json");
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  fs::create_symlink("/dev/zero", folder.path() / "device");
  for (const char* name : {"config.json", "pipe", "device", "."})
    EXPECT_THROW(find_file(folder.path(), name), Error) << name;
}

}  // namespace
}  // namespace mlx_lm
