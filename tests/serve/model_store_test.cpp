#include "mlx_lm/serve/model_store.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "mlx_lm/serve/api_error.h"

namespace mlx_lm::serve {
namespace {

namespace fs = std::filesystem;

class ModelStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    // The cases run side by side.
    dir_ = fs::path(testing::TempDir()) / ("mlx_lm_model_store_test_" + std::to_string(::getpid()));
    fs::remove_all(dir_);
    fs::create_directories(dir_ / "models");
    fs::create_symlink(default_model_path(), dir_ / "models" / "other.gguf");
    fs::create_symlink(default_model_path(), dir_ / "outside.gguf");
    std::ofstream(dir_ / "models" / "notes.txt") << "no model";
    options_ = {.model = default_model_path().string(), .model_dir = dir_ / "models"};
  }
  void TearDown() override { fs::remove_all(dir_); }

  fs::path dir_;
  ModelStoreOptions options_;
};

TEST_F(ModelStoreTest, KnowsTheDefaultAndThoseOfTheFolder) {
  ModelStore store(options_);
  const auto models = store.list();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0]["id"], store.default_id());
  EXPECT_EQ(models[1]["id"], "other");
  const auto model = store.get(std::nullopt);
  EXPECT_EQ(store.get("default_model"), model);
  EXPECT_EQ(store.get(store.default_id()), model);
  EXPECT_NE(store.get("other"), model);
  EXPECT_EQ(store.get("other")->id, "other");
}

TEST_F(ModelStoreTest, RefusesWhatIsNotThere) {
  ModelStore store(options_);
  for (const char* name : {"../outside", "../outside.gguf", "outside", "", ".", "..", "notes.txt", "/etc/passwd",
                           "some/repository", "models/other"}) {
    try {
      store.get(name);
      FAIL() << name;
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status(), 404);
      EXPECT_EQ(error.param(), "model");
    }
  }
  EXPECT_THROW(store.get(std::nullopt, "adapter"), ApiError);
  options_.model_dir = dir_ / "missing";
  EXPECT_THROW(ModelStore{options_}, RequestError);
}

TEST_F(ModelStoreTest, LetsIdleModelsGo) {
  options_.idle_unload = std::chrono::seconds(1);
  ModelStore store(options_);
  std::weak_ptr<const ServedModel> other = store.get("other");
  ASSERT_FALSE(other.expired());
  for (int i = 0; i < 300 && !other.expired(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(other.expired());
  EXPECT_EQ(store.get("other")->id, "other");
}

}  // namespace
}  // namespace mlx_lm::serve
