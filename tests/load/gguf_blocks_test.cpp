// Each block type against a dequantization in double precision that is written from the format's description, one
// number at a time.
#include "mlx_lm/load/gguf_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <mlx/mlx.h>

namespace mlx_lm {
namespace {

namespace mx = mlx::core;
using Block = const uint8_t*;

double half(Block b) {
  int h = b[0] | b[1] << 8, exponent = h >> 10 & 31, mantissa = h & 1023;
  double value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return h & 0x8000 ? -value : value;
}

constexpr int kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

int nibble(Block q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }
int bit(Block bits, int i) { return bits[i / 8] >> i % 8 & 1; }

// Scale and minimum number j of Q4_K and Q5_K.
std::pair<int, int> k_scale(Block s, int j) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) + 16 * (s[j - 4] >> 6), (s[j + 4] >> 4) + 16 * (s[j] >> 6)};
}

// The nibble of number i of 256 in Q4_K and Q5_K: 64 numbers share 32 bytes.
int k_nibble(Block q, int i) { return q[i / 64 * 32 + i % 32] >> (i % 64 < 32 ? 0 : 4) & 15; }

struct Case {
  GgufType type;
  int block, bytes;
  std::vector<int> halves;  // where the float16 numbers are
  bool exact;
  std::function<double(Block, int)> value;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {GgufType::q4_0, 32, 18, {0}, true, [](Block b, int i) { return half(b) * (nibble(b + 2, i) - 8); }},
      {GgufType::q4_1, 32, 20, {0, 2}, true, [](Block b, int i) { return half(b) * nibble(b + 4, i) + half(b + 2); }},
      {GgufType::q5_0,
       32,
       22,
       {0},
       true,
       [](Block b, int i) { return half(b) * (nibble(b + 6, i) + 16 * bit(b + 2, i) - 16); }},
      {GgufType::q5_1,
       32,
       24,
       {0, 2},
       true,
       [](Block b, int i) { return half(b) * (nibble(b + 8, i) + 16 * bit(b + 4, i)) + half(b + 2); }},
      {GgufType::q8_0, 32, 34, {0}, true, [](Block b, int i) { return half(b) * int8_t(b[2 + i]); }},
      {GgufType::iq4_nl, 32, 18, {0}, true, [](Block b, int i) { return half(b) * kIq4Values[nibble(b + 2, i)]; }},
      {GgufType::iq4_xs,
       256,
       136,
       {0},
       true,
       [](Block b, int i) {
         int g = i / 32, low = b[4 + g / 2] >> (g % 2 ? 4 : 0) & 15, high = (b[2] | b[3] << 8) >> 2 * g & 3;
         return half(b) * (low + 16 * high - 32) * kIq4Values[nibble(b + 8 + 16 * g, i % 32)];
       }},
      {GgufType::q4_k,
       256,
       144,
       {0, 2},
       true,
       [](Block b, int i) {
         auto [scale, least] = k_scale(b + 4, i / 32);
         return half(b) * scale * k_nibble(b + 16, i) - half(b + 2) * least;
       }},
      {GgufType::q5_k,
       256,
       176,
       {0, 2},
       true,
       [](Block b, int i) {
         auto [scale, least] = k_scale(b + 4, i / 32);
         int q = k_nibble(b + 48, i) + 16 * (b[16 + i % 32] >> i / 32 & 1);
         return half(b) * scale * q - half(b + 2) * least;
       }},
      {GgufType::q6_k,
       256,
       210,
       {208},
       false,
       [](Block b, int i) {
         int part = i / 128, in = i % 128;
         int low = b[64 * part + in % 64] >> (in < 64 ? 0 : 4) & 15;
         int high = b[128 + 32 * part + in % 32] >> 2 * (in / 32) & 3;
         return half(b + 208) * int8_t(b[192 + i / 16]) * (low + 16 * high - 32);
       }},
      {GgufType::q3_k,
       256,
       110,
       {108},
       true,
       [](Block b, int i) {
         int n = i / 16, part = i / 128, in = i % 128;
         int scale = (n < 8 ? b[96 + n] & 15 : b[96 + n - 8] >> 4) + 16 * (b[104 + n % 4] >> 2 * (n / 4) & 3);
         int q = b[32 + 32 * part + in % 32] >> 2 * (in / 32) & 3;
         if (!(b[in % 32] >> (4 * part + in / 32) & 1)) q -= 4;
         return half(b + 108) * (scale - 32) * q;
       }},
      {GgufType::q2_k,
       256,
       84,
       {80, 82},
       false,
       [](Block b, int i) {
         int part = i / 128, in = i % 128, s = b[i / 16];
         int q = b[16 + 32 * part + in % 32] >> 2 * (in / 32) & 3;
         return half(b + 80) * (s & 15) * q - half(b + 82) * (s >> 4);
       }},
  };
  return all;
}

std::string name(GgufType type) { return "type " + std::to_string(int(type)); }

// Blocks of random bytes whose float16 numbers are finite.
std::vector<uint8_t> random_blocks(const Case& c, int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> out(size_t(count * c.bytes));
  for (auto& byte : out) byte = uint8_t(random());
  for (int i = 0; i < count; ++i) {
    for (int at : c.halves) {
      auto& high = out[size_t(i * c.bytes + at + 1)];
      high = uint8_t((high & 0x83) | (random() % 20) << 2);  // exponents 0 (subnormal) to 19: biases stay finite
    }
  }
  return out;
}

struct Affine {
  int bits;
  bool wide;
  bool fits;
  std::vector<uint8_t> codes, scales, biases;

  int code(int i) const {  // the numbers' bits in a row, the lowest first
    int out = 0;
    for (int k = 0; k < bits; ++k) out |= bit(codes.data(), i * bits + k) << k;
    return out;
  }
  double number(const std::vector<uint8_t>& from, int group) const {
    if (!wide) return half(from.data() + 2 * group);
    float value;
    std::memcpy(&value, from.data() + 4 * group, 4);
    return value;
  }
  double scale(int i) const { return number(scales, i / 32); }
  double value(int i) const { return code(i) * scale(i) + number(biases, i / 32); }
};

Affine convert(const Case& c, const std::vector<uint8_t>& blocks, bool wide) {
  auto form = *gguf_affine(c.type);
  size_t count = blocks.size() / size_t(c.bytes), groups = count * size_t(c.block) / 32;
  wide |= form.wide_scales;
  Affine out{form.bits,
             wide,
             false,
             std::vector<uint8_t>(groups * size_t(form.bits) * 4),
             std::vector<uint8_t>(groups * (wide ? 4 : 2)),
             std::vector<uint8_t>(groups * (wide ? 4 : 2))};
  auto bytes = [](auto& v) { return reinterpret_cast<std::byte*>(v.data()); };
  const GgufTypeInfo type{c.type, "", c.block, c.bytes};
  out.fits = convert_gguf_blocks(type, reinterpret_cast<const std::byte*>(blocks.data()), count, wide, bytes(out.codes),
                                 bytes(out.scales), bytes(out.biases));
  return out;
}

// The two forms of the codes hold the same numbers.
TEST(GgufBlocks, ReadCodesAsTheKernelsWantThem) {
  for (const auto& c : cases()) {
    for (bool wide : {false, true}) {
      constexpr int kBlocks = 77;  // no multiple of those that are converted together
      auto blocks = random_blocks(c, kBlocks, 21);
      auto expected = convert(c, blocks, wide), found = expected;
      const int numbers = kBlocks * c.block;
      found.codes.assign(size_t(expected.bits == 4 ? numbers / 2 : numbers), 0);
      auto bytes = [](auto& v) { return reinterpret_cast<std::byte*>(v.data()); };
      found.scales.assign(found.scales.size(), 0), found.biases.assign(found.biases.size(), 0);
      ASSERT_TRUE(read_gguf_blocks(c.type, bytes(blocks), kBlocks, wide, bytes(found.codes), bytes(found.scales),
                                   bytes(found.biases)));
      EXPECT_EQ(found.scales, expected.scales) << name(c.type);
      EXPECT_EQ(found.biases, expected.biases) << name(c.type);
      for (int i = 0; i < numbers; ++i) {
        const int code = expected.bits == 4 ? nibble(found.codes.data() + i / 32 * 16, i % 32) : found.codes[size_t(i)];
        ASSERT_EQ(code, expected.code(i)) << name(c.type) << " number " << i;
      }
    }
  }
}

TEST(GgufBlocks, KeepEveryValue) {
  for (const auto& c : cases()) {
    for (bool wide : {false, true}) {
      constexpr int kBlocks = 200;
      auto blocks = random_blocks(c, kBlocks, 17);
      auto affine = convert(c, blocks, wide);
      ASSERT_TRUE(affine.fits) << name(c.type);
      for (int block = 0; block < kBlocks && c.exact; ++block) {
        for (int i = 0; i < c.block; ++i) {
          ASSERT_EQ(affine.value(block * c.block + i), c.value(blocks.data() + block * c.bytes, i))
              << name(c.type) << " block " << block << " number " << i << (wide ? " wide" : "");
        }
      }
    }
  }
}

// Q2_K and Q6_K scale groups of 16: where two such scales have no fine enough common unit, the values of a group are
// rounded to 256 steps.
TEST(GgufBlocks, RoundToHalfAStepWhereEightBitsAreTooFew) {
  for (const auto& c : cases()) {
    if (c.exact) continue;
    constexpr int kBlocks = 400;
    auto blocks = random_blocks(c, kBlocks, 18);
    auto affine = convert(c, blocks, true);
    for (int group = 0; group < kBlocks * c.block / 32; ++group) {
      double low = INFINITY, high = -INFINITY, worst = 0;
      for (int i = 32 * group; i < 32 * group + 32; ++i) {
        double value = c.value(blocks.data() + i / c.block * c.bytes, i % c.block);
        low = std::min(low, value), high = std::max(high, value);
        worst = std::max(worst, std::abs(affine.value(i) - value));
      }
      // Beside the step, the rounding of float32.
      ASSERT_LE(worst, (high - low) / 510 * 1.001 + 1e-6 * std::max(std::abs(low), std::abs(high)))
          << name(c.type) << " group " << group;
    }
  }
}

TEST(GgufBlocks, KeepQ6KExactlyWhereTheScalesShareAUnit) {
  const auto& c = *std::ranges::find(cases(), GgufType::q6_k, &Case::type);
  auto blocks = random_blocks(c, 100, 19);
  for (size_t block = 0; block < 100; ++block) {
    for (size_t i = 0; i < 16; i += 2) {  // the same scale, one twice the other, opposite ones
      auto* scale = blocks.data() + block * 210 + 192 + i;
      scale[0] = uint8_t(1 + block % 31);
      scale[1] = uint8_t(scale[0] * (i % 8 == 0 ? 1 : i % 8 == 2 ? 2 : i % 8 == 4 ? -1 : -2));
    }
  }
  auto affine = convert(c, blocks, true);
  for (int i = 0; i < 100 * 256; ++i) ASSERT_EQ(affine.value(i), c.value(blocks.data() + i / 256 * 210, i % 256)) << i;
}

TEST(GgufBlocks, ReportABiasBeyondFloat16) {
  for (auto [type, shift] :
       {std::pair{GgufType::q4_0, 3}, {GgufType::q5_0, 4}, {GgufType::q8_0, 7}, {GgufType::iq4_nl, 7}}) {
    const auto& c = *std::ranges::find(cases(), type, &Case::type);
    for (int exponent = 0; exponent < 31; ++exponent) {
      for (int mantissa : {0, 1, 3, 0x200, 0x3ff}) {
        for (int sign : {0, 0x80}) {
          std::vector<uint8_t> block(size_t(c.bytes), 0x5a);
          block[0] = uint8_t(mantissa);
          block[1] = uint8_t(sign | exponent << 2 | mantissa >> 8);
          auto narrow = convert(c, block, false), wide = convert(c, block, true);
          EXPECT_TRUE(wide.fits);
          EXPECT_EQ(narrow.fits, exponent + shift < 31 || (exponent == 0));
          for (int i = 0; i < 32; ++i) {
            EXPECT_EQ(wide.value(i), c.value(block.data(), i));
            if (narrow.fits) {
              EXPECT_EQ(narrow.value(i), c.value(block.data(), i));
            }
          }
        }
      }
    }
  }
}

// Nothing here may depend on the bytes being sensible: infinities and NaN come out as such, or as any code.
TEST(GgufBlocks, SurviveAnyBytes) {
  std::mt19937 random(20);
  for (const auto& c : cases()) {
    for (int fill : {-1, 0, 0x7c, 0xff}) {
      std::vector<uint8_t> blocks(size_t(c.bytes) * 100);
      for (auto& byte : blocks) byte = uint8_t(fill < 0 ? int(random()) : fill);
      convert(c, blocks, false);
      convert(c, blocks, true);
    }
  }
}

// The packing is MLX's own: its dequantize() finds the same numbers.
TEST(GgufBlocks, AreReadByMlx) {
  mx::set_default_device(mx::Device::cpu);
  for (const auto& c : cases()) {
    int count = 256 / c.block * 2;
    auto blocks = random_blocks(c, count, 21);
    auto affine = convert(c, blocks, true);
    auto as = [](const std::vector<uint8_t>& bytes, mx::Dtype dtype) {
      return mx::view(mx::array(bytes.data(), {2, int(bytes.size() / 2)}, mx::uint8), dtype);
    };
    auto out = mx::dequantize(as(affine.codes, mx::uint32), as(affine.scales, mx::float32),
                              as(affine.biases, mx::float32), 32, affine.bits);
    out.eval();
    ASSERT_EQ(out.shape(), (mx::Shape{2, 256}));
    for (int i = 0; i < 512; ++i) {
      double value = affine.value(i);
      ASSERT_NEAR(out.data<float>()[i], value, 1e-6 * (std::abs(value) + 255 * std::abs(affine.scale(i))))
          << name(c.type);
    }
  }
}

TEST(GgufBlocks, LeaveOtherTypesAlone) {
  for (auto type :
       {GgufType::f32, GgufType::f16, GgufType::bf16, GgufType::i8, GgufType(9), GgufType(16), GgufType(39)}) {
    EXPECT_FALSE(gguf_affine(type));
  }
}

}  // namespace
}  // namespace mlx_lm
