#include "mlx_lm/load/get_model_path.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <optional>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/load/temp_folder.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;

// An environment variable, put back at the end.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = ::getenv(name)) old_ = old;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~Variable() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

// The error's text. Offline, so that no name can reach a server.
std::string refused(const std::string& name) {
  try {
    get_model_path(name, {.offline = true});
  } catch (const Error& error) {
    EXPECT_EQ(error.what()[0], '[') << error.what();
    return error.what();
  }
  ADD_FAILURE() << name;
  return "";
}

TEST(GetModelPath, TakesFoldersAndGgufFiles) {
  TempFolder folder;
  folder.write("config.json", "{}");
  folder.write("a.gguf", "");
  EXPECT_EQ(get_model_path(folder.path().string()), folder.path());  // with both, the folder is the model
  EXPECT_EQ(get_model_path((folder.path() / "a.gguf").string()), folder.path() / "a.gguf");
  fs::remove(folder.path() / "config.json");
  EXPECT_EQ(get_model_path(folder.path().string()), folder.path() / "a.gguf");
  fs::create_symlink(folder.path() / "a.gguf", folder.path() / "link");
  fs::create_directory_symlink(folder.path(), folder.path() / "again");
  EXPECT_EQ(get_model_path((folder.path() / "again").string()), folder.path() / "again" / "a.gguf");
}

TEST(GetModelPath, RefusesFoldersWithoutOneModel) {
  TempFolder folder;
  EXPECT_NE(refused(folder.path().string()).find("or a .gguf file"), std::string::npos);
  folder.write("model.safetensors", "");
  EXPECT_NE(refused(folder.path().string()).find(folder.path().string()), std::string::npos);
  folder.write("a.gguf", "");
  folder.write("b.gguf", "");
  EXPECT_NE(refused(folder.path().string()).find("name the one that you mean"), std::string::npos);
}

TEST(GetModelPath, RefusesOtherFiles) {
  TempFolder folder;
  folder.write("model.safetensors", "");
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  for (const auto& path : {folder.path() / "model.safetensors", folder.path() / "pipe", fs::path("/dev/null")}) {
    EXPECT_NE(refused(path.string()).find("another kind of file"), std::string::npos);
  }
}

TEST(GetModelPath, NeverTakesAPathForARepository) {
  TempFolder folder;
  fs::create_symlink("nothing", folder.path() / "broken");
  for (const std::string& name :
       {std::string(), std::string("./nothing"), std::string("../nothing"), std::string("~/nothing"),
        std::string("/nothing"), std::string("a/b/c"), std::string("a/b/"), std::string("nothing.gguf"),
        std::string("a/nothing.gguf"), (folder.path() / "broken").string(), (folder.path() / "nothing").string()}) {
    const auto text = refused(name);
    EXPECT_NE(text.find("[load] " + name + ": expected a model folder"), std::string::npos) << text;
  }
}

TEST(GetModelPath, AsksTheHubForOtherNames) {
  TempFolder cache;
  Variable home("HF_HOME", cache.path().c_str()), hub("HF_HUB_CACHE", nullptr);
  for (const std::string& name :
       {std::string("name"), std::string("organization/name"), std::string("or ganization/na me"), std::string("a/.."),
        std::string("a\nb/c"), std::string("\xff/x"), std::string(5000, 'a'), "a/" + std::string(300, 'b')}) {
    EXPECT_EQ(refused(name).find("[load]"), std::string::npos) << name;
  }
  EXPECT_TRUE(fs::is_empty(cache.path()));  // a name that is refused leaves nothing behind
}

TEST(GetModelPath, FindsASnapshotInTheCache) {
  TempFolder cache;
  Variable home("HF_HOME", cache.path().c_str()), hub("HF_HUB_CACHE", nullptr);
  const std::string commit(40, 'a'), repository = "hub/models--org--name/";
  cache.write(repository + "refs/main", commit);
  cache.write(repository + "snapshots/" + commit + "/config.json", "{}");
  EXPECT_EQ(fs::weakly_canonical(get_model_path("org/name", {.offline = true})),
            cache.path() / "hub/models--org--name/snapshots" / commit);
}

TEST(DefaultModelPath, LiesInTheUsersCache) {
  TempFolder folder;
  const std::string file = "mlx-lm.cpp/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  {
    Variable cache("XDG_CACHE_HOME", folder.path().c_str());
    EXPECT_THROW(default_model_path(), Error);
    folder.write(file, "");
    EXPECT_EQ(default_model_path(), folder.path() / file);
  }
  Variable cache("XDG_CACHE_HOME", nullptr), home("HOME", folder.path().c_str());
  folder.write(".cache/" + file, "");
  EXPECT_EQ(default_model_path(), folder.path() / ".cache" / file);
  Variable nowhere("HOME", nullptr);
  EXPECT_THROW(default_model_path(), Error);
}

}  // namespace
}  // namespace mlx_lm
