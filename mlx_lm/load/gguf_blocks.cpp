#include "mlx_lm/load/gguf_blocks.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>

namespace mlx_lm {
namespace {

using Bytes = const uint8_t*;

template <class T>
T load(Bytes data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

float half_to_float(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(float(mantissa) * 0x1p-24f));
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

float load_half(Bytes data) { return half_to_float(load<uint16_t>(data)); }

// A group's scale and bias where it is going: float16 bits or float32.
using Half = uint16_t;

bool put_pair(Bytes d, Bytes m, Half* scale, Half* bias) {
  *scale = load<Half>(d);
  *bias = load<Half>(m);
  return true;
}

bool put_pair(Bytes d, Bytes m, float* scale, float* bias) {
  *scale = load_half(d);
  *bias = load_half(m);
  return true;
}

// Scale d and bias -d * 2^shift, exactly. In float16 that is work on the exponent alone: a compiler without F16C
// calls a slow library function for each conversion.
bool put_shifted(Bytes d, int shift, Half* scale, Half* bias) {
  auto h = load<Half>(d);
  *scale = h;
  uint32_t sign = (h & 0x8000u) ^ 0x8000u, exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
  if (exponent != 0) {
    *bias = Half(sign | (exponent + uint32_t(shift)) << 10 | mantissa);
    return exponent + uint32_t(shift) < 31;
  }
  int normal = mantissa == 0 ? 0 : std::countl_zero(mantissa) - 21;  // shifts until the leading bit is implicit
  if (normal <= shift && mantissa != 0) {
    *bias = Half(sign | uint32_t(shift - normal + 1) << 10 | ((mantissa << normal) & 0x3ff));
  } else {
    *bias = Half(sign | mantissa << shift);
  }
  return true;
}

bool put_shifted(Bytes d, int shift, float* scale, float* bias) {
  *scale = load_half(d);
  *bias = -*scale * float(1 << shift);
  return true;
}

// 32 bytes whose low halves are one group and high halves the next.
void split_two_groups(Bytes q, uint8_t* low, uint8_t* high) {
  for (int k = 0; k < 16; ++k) {
    low[k] = uint8_t((q[k] & 0x0f) | q[k + 16] << 4);
    high[k] = uint8_t(q[k] >> 4 | (q[k + 16] & 0xf0));
  }
}

// Codes of 8 bits for d * unit * values. Exact while the values span at most 255; beyond that the nearest of 256 steps,
// an error of at most 1/510 of the span.
void put_integers(const int* values, int unit, float d, uint8_t* codes, float* scale, float* bias) {
  auto [low, high] = std::minmax_element(values, values + 32);
  int least = *low, span = *high - *low;
  *bias = d * float(least * unit);
  if (span <= 255) {
    *scale = d * float(unit);
    for (int i = 0; i < 32; ++i) codes[i] = uint8_t(values[i] - least);
  } else {
    *scale = d * (float(span * unit) / 255);
    float inverse = 255 / float(span * unit);
    for (int i = 0; i < 32; ++i) codes[i] = uint8_t(float((values[i] - least) * unit) * inverse + 0.5f);
  }
}

// A block type: how many bytes it has, how many groups, how many bytes of codes a group becomes, and how it is read.
struct Q4_0 {
  static constexpr int kBytes = 18, kGroups = 1, kCode = 16;
  template <class S>
  static bool read(Bytes b, uint8_t* codes, S* scale, S* bias) {
    std::memcpy(codes, b + 2, 16);
    return put_shifted(b, 3, scale, bias);
  }
};

struct Q4_1 {
  static constexpr int kBytes = 20, kGroups = 1, kCode = 16;
  template <class S>
  static bool read(Bytes b, uint8_t* codes, S* scale, S* bias) {
    std::memcpy(codes, b + 4, 16);
    return put_pair(b, b + 2, scale, bias);
  }
};

void join_q5(Bytes high, Bytes q, uint8_t* codes) {
  auto bits = load<uint32_t>(high);
  for (int i = 0; i < 16; ++i) {
    codes[i] = uint8_t((q[i] & 15) | (bits >> i & 1) << 4);
    codes[i + 16] = uint8_t((q[i] >> 4) | (bits >> (i + 16) & 1) << 4);
  }
}

struct Q5_0 {
  static constexpr int kBytes = 22, kGroups = 1, kCode = 32;
  template <class S>
  static bool read(Bytes b, uint8_t* codes, S* scale, S* bias) {
    join_q5(b + 2, b + 6, codes);
    return put_shifted(b, 4, scale, bias);
  }
};

struct Q5_1 {
  static constexpr int kBytes = 24, kGroups = 1, kCode = 32;
  template <class S>
  static bool read(Bytes b, uint8_t* codes, S* scale, S* bias) {
    join_q5(b + 4, b + 8, codes);
    return put_pair(b, b + 2, scale, bias);
  }
};

struct Q8_0 {
  static constexpr int kBytes = 34, kGroups = 1, kCode = 32;
  template <class S>
  static bool read(Bytes b, uint8_t* codes, S* scale, S* bias) {
    for (int i = 0; i < 32; i += 8) {  // by words: byte by byte this loop was a tenth of a program's start
      const uint64_t eight = load<uint64_t>(b + 2 + i) ^ 0x8080808080808080;
      std::memcpy(codes + i, &eight, 8);
    }
    return put_shifted(b, 7, scale, bias);
  }
};

constexpr int8_t kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void look_up_iq4(Bytes q, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = uint8_t(kIq4[q[i] & 15] + 128);
    codes[i + 16] = uint8_t(kIq4[q[i] >> 4] + 128);
  }
}

struct Iq4Nl {
  static constexpr int kBytes = 18, kGroups = 1, kCode = 32;
  template <class S>
  static bool read(Bytes b, uint8_t* codes, S* scale, S* bias) {
    look_up_iq4(b + 2, codes);
    return put_shifted(b, 7, scale, bias);
  }
};

struct Iq4Xs {
  static constexpr int kBytes = 136, kGroups = 8, kCode = 32;
  static bool read(Bytes b, uint8_t* codes, float* scale, float* bias) {
    float d = load_half(b);
    auto high = load<uint16_t>(b + 2);
    for (int g = 0; g < 8; ++g) {
      int s = (b[4 + g / 2] >> 4 * (g % 2) & 15) | (high >> 2 * g & 3) << 4;
      look_up_iq4(b + 8 + 16 * g, codes + 32 * g);
      scale[g] = d * float(s - 32);
      bias[g] = -128 * scale[g];
    }
    return true;
  }
};

// The 6-bit scales and minima of Q4_K and Q5_K: eight of each in twelve bytes.
void put_k_scales(Bytes b, float* scale, float* bias) {
  float d = load_half(b), least = load_half(b + 2);
  Bytes s = b + 4;
  for (int g = 0; g < 8; ++g) {
    int sc = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
    int m = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4;
    scale[g] = d * float(sc);
    bias[g] = -least * float(m);
  }
}

struct Q4K {
  static constexpr int kBytes = 144, kGroups = 8, kCode = 16;
  static bool read(Bytes b, uint8_t* codes, float* scale, float* bias) {
    put_k_scales(b, scale, bias);
    for (int j = 0; j < 4; ++j) split_two_groups(b + 16 + 32 * j, codes + 32 * j, codes + 32 * j + 16);
    return true;
  }
};

struct Q5K {
  static constexpr int kBytes = 176, kGroups = 8, kCode = 32;
  static bool read(Bytes b, uint8_t* codes, float* scale, float* bias) {
    put_k_scales(b, scale, bias);
    Bytes high = b + 16, q = b + 48;
    for (int g = 0; g < 8; ++g) {
      uint8_t* c = codes + 32 * g;
      for (int i = 0; i < 32; ++i) c[i] = uint8_t((q[32 * (g / 2) + i] >> 4 * (g % 2) & 15) | (high[i] >> g & 1) << 4);
    }
    return true;
  }
};

// The types below scale groups of 16, which MLX does not have: two of theirs share an 8-bit group of 32.
struct Q6K {
  static constexpr int kBytes = 210, kGroups = 8, kCode = 32;
  static bool read(Bytes b, uint8_t* codes, float* scale, float* bias) {
    float d = load_half(b + 208);
    for (int g = 0; g < 8; ++g) {
      Bytes low = b + 64 * (g / 4) + 32 * (g % 2), high = b + 128 + 32 * (g / 4);
      const auto* s = reinterpret_cast<const int8_t*>(b + 192) + 2 * g;
      const int unit = std::max(1, std::gcd(int(s[0]), int(s[1]))), factors[2] = {s[0] / unit, s[1] / unit};
      int values[32];
      for (int i = 0; i < 32; ++i) {
        int q = (low[i] >> 4 * (g % 4 / 2) & 15) | (high[i] >> 2 * (g % 4) & 3) << 4;
        values[i] = (q - 32) * factors[i / 16];
      }
      put_integers(values, unit, d, codes + 32 * g, scale + g, bias + g);
    }
    return true;
  }
};

struct Q3K {
  static constexpr int kBytes = 110, kGroups = 8, kCode = 32;
  static bool read(Bytes b, uint8_t* codes, float* scale, float* bias) {
    float d = load_half(b + 108);
    Bytes high = b, s = b + 96;
    for (int g = 0; g < 8; ++g) {
      int values[32];
      for (int i = 0; i < 32; ++i) {
        int n = 2 * g + i / 16;
        int sc = (s[n % 8] >> 4 * (n / 8) & 15) | (s[8 + n % 4] >> 2 * (n / 4) & 3) << 4;
        int q = (b[32 + 32 * (g / 4) + i] >> 2 * (g % 4) & 3) - (high[i] >> g & 1 ? 0 : 4);
        values[i] = q * (sc - 32);
      }
      put_integers(values, 1, d, codes + 32 * g, scale + g, bias + g);  // 31 * 4 + 32 * 4 < 256: always exact
    }
    return true;
  }
};

struct Q2K {
  static constexpr int kBytes = 84, kGroups = 8, kCode = 32;
  static bool read(Bytes b, uint8_t* codes, float* scale, float* bias) {
    float d = load_half(b + 80), least = load_half(b + 82);
    for (int g = 0; g < 8; ++g) {
      float values[32];
      for (int i = 0; i < 32; ++i) {
        int s = b[2 * g + i / 16], q = b[16 + 32 * (g / 4) + i] >> 2 * (g % 4) & 3;
        values[i] = d * float(s & 15) * float(q) - least * float(s >> 4);
      }
      auto [low, high] = std::minmax_element(values, values + 32);
      bias[g] = *low;
      scale[g] = (*high - *low) / 255;
      float inverse = scale[g] != 0 ? 1 / scale[g] : 0;
      for (int i = 0; i < 32; ++i) {
        float code = (values[i] - bias[g]) * inverse + 0.5f;
        codes[32 * g + i] = code > 0 ? (code < 255 ? uint8_t(code) : 255) : 0;  // not a number becomes 0
      }
    }
    return true;
  }
};

template <class Block, class S>
bool read_all(Bytes in, size_t count, std::byte* codes, std::byte* scales, std::byte* biases) {
  auto* out = reinterpret_cast<uint8_t*>(codes);
  auto* scale = reinterpret_cast<S*>(scales);
  auto* bias = reinterpret_cast<S*>(biases);
  bool fits = true;
  for (size_t i = 0; i < count; ++i) {
    fits &= Block::read(in, out, scale, bias);
    in += Block::kBytes;
    out += Block::kGroups * Block::kCode;
    scale += Block::kGroups;
    bias += Block::kGroups;
  }
  return fits;
}

}  // namespace

std::optional<GgufAffine> gguf_affine(GgufType type) {
  switch (type) {
    case GgufType::q4_0:
    case GgufType::q4_1:
      return GgufAffine{4, false};
    case GgufType::q5_0:
    case GgufType::q5_1:
      return GgufAffine{5, false};
    case GgufType::q8_0:
    case GgufType::iq4_nl:
      return GgufAffine{8, false};
    case GgufType::q4_k:
      return GgufAffine{4, true};
    case GgufType::q5_k:
      return GgufAffine{5, true};
    case GgufType::q2_k:
    case GgufType::q3_k:
    case GgufType::q6_k:
    case GgufType::iq4_xs:
      return GgufAffine{8, true};
    default:
      return std::nullopt;
  }
}

bool read_gguf_blocks(GgufType type, const std::byte* blocks, size_t count, bool wide, std::byte* codes,
                      std::byte* scales, std::byte* biases) {
  const auto in = reinterpret_cast<Bytes>(blocks);
  auto either = [&]<class Block>(Block) {
    return wide ? read_all<Block, float>(in, count, codes, scales, biases)
                : read_all<Block, Half>(in, count, codes, scales, biases);
  };
  auto always_wide = [&]<class Block>(Block) { return read_all<Block, float>(in, count, codes, scales, biases); };
  switch (type) {
    case GgufType::q4_0:
      return either(Q4_0());
    case GgufType::q4_1:
      return either(Q4_1());
    case GgufType::q5_0:
      return either(Q5_0());
    case GgufType::q5_1:
      return either(Q5_1());
    case GgufType::q8_0:
      return either(Q8_0());
    case GgufType::iq4_nl:
      return either(Iq4Nl());
    case GgufType::iq4_xs:
      return always_wide(Iq4Xs());
    case GgufType::q2_k:
      return always_wide(Q2K());
    case GgufType::q3_k:
      return always_wide(Q3K());
    case GgufType::q4_k:
      return always_wide(Q4K());
    case GgufType::q5_k:
      return always_wide(Q5K());
    case GgufType::q6_k:
      return always_wide(Q6K());
    default:
      assert(false && "gguf_affine() says which types convert");
      return false;
  }
}

}  // namespace mlx_lm
