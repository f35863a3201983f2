#include "mlx_lm/kernels/weight_memory.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

namespace mlx_lm::kernels {
namespace {

TEST(WeightMemory, PiecesAreZeroedAlignedAndApart) {
  struct Piece {
    std::shared_ptr<uint8_t> data;
    size_t size;
  };
  std::vector<Piece> pieces;
  // Small and large ones in turn, through several chunks.
  for (int i = 0; i < 60; ++i) {
    const size_t size = i % 7 == 6 ? (size_t{9} << 20) + i : size_t{1} + i * 45'678;
    pieces.push_back({weight_memory(size), size});
    const auto& piece = pieces.back();
    ASSERT_EQ(reinterpret_cast<uintptr_t>(piece.data.get()) % 64, 0u);
    ASSERT_TRUE(std::all_of(piece.data.get(), piece.data.get() + size, [](uint8_t byte) { return byte == 0; }));
    std::fill_n(piece.data.get(), size, static_cast<uint8_t>(i + 1));
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto* data = pieces[i].data.get();
    EXPECT_TRUE(std::all_of(data, data + pieces[i].size, [&](uint8_t byte) { return byte == i + 1; })) << i;
  }
}

TEST(WeightMemory, APieceOutlivesItsNeighbours) {
  auto first = weight_memory(1000);
  std::fill_n(first.get(), 1000, uint8_t{7});
  weight_memory(1000).reset();
  for (int i = 0; i < 10; ++i) weight_memory(8 << 20);
  EXPECT_TRUE(std::all_of(first.get(), first.get() + 1000, [](uint8_t byte) { return byte == 7; }));
}

}  // namespace
}  // namespace mlx_lm::kernels
