// Buffers that keys or values are kept in: as floating-point numbers, or quantized.
#pragma once

#include <optional>
#include <vector>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// How the numbers of a buffer are stored.
struct KVFormat {
  int bits = 0;         // 0: floating-point; else 2, 3, 4, 5, 6 or 8, by MLX's affine quantization
  int group_size = 64;  // numbers of a head that share a scale and a bias: 32, 64 or 128

  bool quantized() const { return bits != 0; }
  // Errors: RequestError that names kv-bits or kv-group-size.
  void validate() const;
  // Errors: RequestError unless heads of so many numbers can be stored so.
  void check_head(int dim) const;
  bool operator==(const KVFormat& other) const {
    return bits == other.bits && (bits == 0 || group_size == other.group_size);
  }
};

// Rows of keys or values, (B, K, C, D). All arrays of one have the same first three dimensions.
struct KVBuffer {
  mx::array data;                           // (B, K, C, D); quantized: codes in words, (B, K, C, D * bits / 32) uint32
  std::optional<mx::array> scales, biases;  // (B, K, C, D / group_size), of the type that the numbers had
  KVFormat format;

  KVBuffer(mx::array numbers) : data(std::move(numbers)) {}
  KVBuffer(mx::array codes, mx::array scales, mx::array biases, KVFormat format)
      : data(std::move(codes)), scales(std::move(scales)), biases(std::move(biases)), format(format) {}
  // Errors: see KVFormat::check_head().
  static KVBuffer zeros(int batch, int heads, int rows, int dim, mx::Dtype dtype, const KVFormat& format);

  int rows() const { return data.shape(2); }
  int dim() const { return format.quantized() ? data.shape(3) * 32 / format.bits : data.shape(3); }
  // Of the numbers, or of scales and biases.
  mx::Dtype dtype() const { return scales ? scales->dtype() : data.dtype(); }

  std::vector<mx::array*> arrays();
  std::vector<mx::array> arrays() const;
  // The same with f(array) for each array.
  template <class F>
  KVBuffer with(F f) const {
    return format.quantized() ? KVBuffer(f(data), f(*scales), f(*biases), format) : KVBuffer(f(data));
  }
};

// The rows in that format: the codes, scales and biases of MLX's quantize. Requires floating-point rows.
// Errors: see KVFormat::check_head(). Eval: lazy.
KVBuffer quantized(const KVBuffer& rows, const KVFormat& format);
// One after another along the rows; both of one format.
KVBuffer concatenated(const KVBuffer& a, const KVBuffer& b);

}  // namespace mlx_lm::ops
