#include "mlx_lm/load/pooling.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "temp_folder.h"

namespace mlx_lm {
namespace {

class PoolingTest : public testing::Test {
 protected:
  Pooling folder(const std::string& config, const std::string& modules = {}) const {
    folder_.write("1_Pooling/config.json", config);
    if (!modules.empty()) folder_.write("modules.json", modules);
    return read_pooling(folder_.path(), config_);
  }
  Pooling gguf(const nlohmann::json& config) const {
    return read_pooling(folder_.write("model.gguf", ""), ConfigReader(config, "model.gguf"));
  }

  TempFolder folder_;
  const ConfigReader config_{nlohmann::json::object(), "config.json"};
};

TEST_F(PoolingTest, is_the_mean_where_nothing_is_said) {
  EXPECT_EQ(read_pooling(folder_.path(), config_), Pooling::mean);
  EXPECT_EQ(folder("{}"), Pooling::mean);
  EXPECT_EQ(gguf(nlohmann::json::object()), Pooling::mean);
}

TEST_F(PoolingTest, is_what_the_files_say) {
  EXPECT_EQ(folder(R"({"pooling_mode_cls_token": false, "pooling_mode_lasttoken": true})"), Pooling::last);
  EXPECT_EQ(folder(R"({"pooling_mode_cls_token": true})"), Pooling::first);
  EXPECT_EQ(folder(R"({"pooling_mode_max_tokens": true})"), Pooling::max);
  EXPECT_EQ(folder(R"({"pooling_mode_weightedmean_tokens": true})"), Pooling::weighted_mean);
  EXPECT_EQ(folder(R"({"pooling_mode_mean_sqrt_len_tokens": true, "word_embedding_dimension": 8})"), Pooling::mean);
  const auto typed = [](int type) { return nlohmann::json{{"pooling_type", type}}; };
  EXPECT_EQ(gguf(typed(1)), Pooling::mean);
  EXPECT_EQ(gguf(typed(2)), Pooling::first);
  EXPECT_EQ(gguf(typed(3)), Pooling::last);
  EXPECT_THROW(gguf(typed(4)), ConfigError);
}

TEST_F(PoolingTest, is_refused_where_it_is_not_all) {
  const std::string last = R"({"pooling_mode_lasttoken": true})";
  const auto modules = [](const std::string& third) {
    return R"([{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Pooling"},
               {"type": "sentence_transformers.models.)" +
           third + "\"}]";
  };
  EXPECT_EQ(folder(last, modules("Normalize")), Pooling::last);
  EXPECT_THROW(folder(last, modules("Dense")), ConfigError);
  EXPECT_THROW(folder(last, "{}"), ConfigError);
  EXPECT_THROW(folder(last, "[1]"), ConfigError);
  EXPECT_THROW(folder(last, "[{}]"), ConfigError);
  EXPECT_THROW(folder(last, "[{\"type\": 1}]"), ConfigError);
  EXPECT_EQ(folder(last, "[]"), Pooling::last);
  EXPECT_THROW(folder(R"({"pooling_mode_lasttoken": true, "pooling_mode_cls_token": true})"), ConfigError);
  EXPECT_THROW(folder(R"({"pooling_mode_lasttoken": 1})"), ConfigError);
  EXPECT_THROW(folder("[]"), ConfigError);
  EXPECT_THROW(folder("{"), ConfigError);
}

}  // namespace
}  // namespace mlx_lm
