// Quantized matrices in the layout of PackedView (table.h).
#include "mlx_lm/kernels/packed_matrix.h"

#include <utility>

#include "mlx_lm/kernels/convert.h"
#include "mlx_lm/kernels/packed_floats.h"
#include "mlx_lm/kernels/parallel.h"

namespace mlx_lm::kernels {
namespace {

class Packed : public PackedMatrix {
 public:
  Packed(std::shared_ptr<uint8_t> memory, const PackedView& view) : memory_(std::move(memory)), view_(view) {}

  void take_rows(const int32_t* ids, int n, float* out) const override {
    parallel_pieces(n, 8, 4. * n * view_.cols, [&](int first, int last) {
      for (int i = first; i < last; ++i) {
        float* to = out + static_cast<size_t>(i) * view_.cols;
        view_.format == Format::affine ? take_row(ids[i], to) : take_small_floats(view_, ids[i], to);
      }
    });
  }

  size_t nbytes() const override { return view_.nbytes(); }
  const PackedView& view() const override { return view_; }

 private:
  // Where the group of row r's block at column c begins.
  size_t group_at(int r, int c) const {
    return r / kBlock * view_.block_bytes() + c / view_.group_size * view_.group_bytes();
  }
  // Where the code of (r, c) lies in its group, and by how many bits it is shifted up there.
  struct Place {
    size_t byte;
    int shift;
  };
  Place place_of(int r, int c) const {
    const int k = c % kGroup, piece = k / 4;
    const bool high = view_.nibbles() && piece >= 4;
    const size_t byte = 2 * kBlock * size_of(view_.type) + c % view_.group_size / kGroup * view_.piece_bytes() +
                        (high ? piece - 4 : piece) * 32 + r % kBlock * 4 + k % 4;
    return {byte, high ? 4 : 0};
  }

  void take_row(int r, float* out) const {
    for (int c = 0; c < view_.cols; c += kGroup) {
      const uint8_t* group = view_.data + group_at(r, c);
      const float scale = load_number(view_.type, group, r % kBlock);
      const float bias = load_number(view_.type, group, kBlock + r % kBlock);
      for (int k = 0; k < kGroup; ++k) {
        const Place place = place_of(r, c + k);
        const int byte = group[place.byte] >> place.shift;
        out[c + k] = scale * static_cast<float>(view_.nibbles() ? byte & 15 : byte) + bias;
      }
    }
  }

  std::shared_ptr<uint8_t> memory_;
  PackedView view_;
};

}  // namespace

std::shared_ptr<const PackedMatrix> packed_matrix(std::shared_ptr<uint8_t> memory, const PackedView& view) {
  return std::make_shared<Packed>(std::move(memory), view);
}

}  // namespace mlx_lm::kernels
