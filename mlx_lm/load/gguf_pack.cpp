// GGUF's blocks as MLX packs codes.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "mlx_lm/load/gguf_blocks.h"

namespace mlx_lm {
namespace {

// 16 bytes whose low halves are codes 0-15 and high halves 16-31, into pairs of neighbours.
void pack_four(const uint8_t* q, uint8_t* out) {
  for (int k = 0; k < 8; ++k) {
    uint16_t v;
    std::memcpy(&v, q + 2 * k, 2);
    out[k] = uint8_t((v & 0x0f) | (v >> 4 & 0xf0));
    out[8 + k] = uint8_t((v >> 4 & 0x0f) | (v >> 8 & 0xf0));
  }
}

// 32 five-bit codes into 20 bytes, lowest bit first: eight codes fill five bytes.
void pack_five(const uint8_t* codes, uint8_t* out) {
  for (int i = 0; i < 4; ++i) {
    uint64_t x;
    std::memcpy(&x, codes + 8 * i, 8);
    x = (x & 0x001f001f001f001f) | (x >> 3 & 0x03e003e003e003e0);
    x = (x & 0x000003ff000003ff) | (x >> 6 & 0x000ffc00000ffc00);
    x = (x & 0x00000000000fffff) | (x >> 12 & 0x000000fffff00000);
    std::memcpy(out + 5 * i, &x, 5);
  }
}

}  // namespace

bool convert_gguf_blocks(const GgufTypeInfo& type, const std::byte* blocks, size_t count, bool wide, std::byte* codes,
                         std::byte* scales, std::byte* biases) {
  constexpr size_t kTogether = 32;
  uint8_t group_codes[kTogether * 8 * kGgufGroup];
  const auto form = *gguf_affine(type.type);
  const size_t groups = size_t(type.block / kGgufGroup), scale_bytes = groups * (wide || form.wide_scales ? 4 : 2);
  auto* out = reinterpret_cast<uint8_t*>(codes);
  bool fits = true;
  for (size_t i = 0; i < count; i += kTogether) {
    const size_t n = std::min(kTogether, count - i);
    fits &=
        read_gguf_blocks(type.type, blocks + i * size_t(type.bytes), n, wide, reinterpret_cast<std::byte*>(group_codes),
                         scales + i * scale_bytes, biases + i * scale_bytes);
    for (size_t g = 0; g < n * groups; ++g, out += form.bits * kGgufGroup / 8) {
      if (form.bits == 4) {
        pack_four(group_codes + 16 * g, out);
      } else if (form.bits == 5) {
        pack_five(group_codes + 32 * g, out);
      } else {
        std::memcpy(out, group_codes + 32 * g, kGgufGroup);
      }
    }
  }
  return fits;
}

}  // namespace mlx_lm
