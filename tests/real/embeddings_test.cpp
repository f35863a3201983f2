// The default model's texts as vectors against Python mlx-lm's states (smollm2_embeddings.json, made by embeddings.py).
#include <fstream>
#include <numeric>

#include <gtest/gtest.h>

#include "mlx_lm/mlx_lm.h"

namespace mlx_lm {
namespace {

TEST(RealEmbeddings, are_pooled_from_mlx_lms_states) {
  const auto loaded = load(default_model_path().string());
  const auto cases = nlohmann::json::parse(std::ifstream(MLX_LM_TEST_DATA "/real/smollm2_embeddings.json")).at("cases");
  std::vector<std::vector<int>> texts;
  for (const auto& c : cases) {
    texts.push_back(loaded.tokenizer.encode(c.at("text")));
    EXPECT_EQ(texts.back(), c.at("tokens").get<std::vector<int>>()) << c.at("text");
  }
  for (const auto& [name, pooling] :
       {std::pair("mean", Pooling::mean), std::pair("last", Pooling::last), std::pair("max", Pooling::max)}) {
    for (int piece : {1000, 64, 5}) {
      Embedder embedder(*loaded.model, pooling, texts, piece);
      while (embedder.step()) {
      }
      for (size_t i = 0; i < texts.size(); ++i) {
        const auto& found = embedder.vectors()[i];
        const auto& wanted = cases[i].at(name);
        ASSERT_EQ(found.size(), wanted.size());
        double product = 0;
        for (size_t k = 0; k < found.size(); ++k) product += double(found[k]) * wanted[k].get<double>() * 1e-5;
        EXPECT_GT(product, 0.9998) << name << ", " << piece << " at once, " << cases[i].at("text");
      }
    }
  }
}

// Of the same text's first tokens: the state at each is that of a text that ends there.
TEST(RealEmbeddings, weighted_and_first) {
  const auto loaded = load(default_model_path().string());
  const std::vector<int> text = {504, 2644, 3732, 335};
  const auto embed = [&](Pooling pooling, size_t tokens) {
    Embedder embedder(*loaded.model, pooling, {{text.begin(), text.begin() + tokens}}, 128);
    while (embedder.step()) {
    }
    return embedder.take()[0];
  };
  const auto product = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  EXPECT_GT(product(embed(Pooling::first, 4), embed(Pooling::last, 1)), 0.9999);
  const auto end = embed(Pooling::last, 4);
  EXPECT_GT(product(embed(Pooling::weighted_mean, 4), end), product(embed(Pooling::mean, 4), end) + 0.01);
}

}  // namespace
}  // namespace mlx_lm
