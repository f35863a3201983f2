// The inner loops in plain C++: the meaning of all the others, and what a processor without AVX2 runs.
#include "mlx_lm/kernels/scalar.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "mlx_lm/kernels/affine_group.h"
#include "mlx_lm/kernels/convert.h"
#include "mlx_lm/kernels/small_floats.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace scalar {
namespace {

void to_float(Type type, const void* from, size_t n, float* to) {
  for (size_t i = 0; i < n; ++i) to[i] = load_number(type, from, i);
}

void from_float(const float* from, size_t n, Type type, void* to) {
  for (size_t i = 0; i < n; ++i) store_number(from[i], type, to, i);
}

void dots(const Rows& w, int rows, int cols, const float* x, float* y) {
  for (int r = 0; r < rows; ++r) {
    const void* row = w.from(r, 0).data;
    float sums[8] = {};  // as many as a vector has, for the accuracy of the vector twins
    for (int c = 0; c < cols; ++c) sums[c % 8] += load_number(w.type, row, c) * x[c];
    y[r] = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
  }
}

void weighted_sum(const Rows& w, int rows, int cols, const float* p, float* out) {
  for (int r = 0; r < rows; ++r) {
    const void* row = w.from(r, 0).data;
    for (int c = 0; c < cols; ++c) out[c] += p[r] * load_number(w.type, row, c);
  }
}

void panel(const Rows& w, int rows, int cols, float* panel) {
  for (int r = 0; r < kBlock; ++r) {
    const void* row = w.from(std::min(r, rows - 1), 0).data;
    for (int c = 0; c < cols; ++c) panel[c * kBlock + r] = r < rows ? load_number(w.type, row, c) : 0.f;
  }
}

void panel_product(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, int n, float* y,
                   size_t y_stride, int rows, bool add) {
  for (int i = 0; i < n; ++i) {
    const float* xi = x + i * x_stride;
    float* yi = y + i * y_stride;
    float sums[kBlock] = {};
    for (int r = 0; add && r < rows; ++r) sums[r] = yi[r];
    for (int c = 0; c < depth; ++c) {
      for (int r = 0; r < kBlock; ++r) sums[r] += panel[c * panel_stride + r] * xi[c];
    }
    std::copy_n(sums, rows, yi);
  }
}

// Where column c of a group stands among the codes (QuantizedRows).
template <class Code>
constexpr int place(int c) {
  constexpr int kOrder[] = {0, 2, 1, 3};
  return sizeof(Code) == 1 ? c : c / 4 * 4 + kOrder[c % 4];
}

template <class Code>
void quantize(const float* x, int cols, Code* codes, Factor* factors) {
  constexpr float kMost = std::numeric_limits<Code>::max();
  for (int g = 0; g < cols / kGroup; ++g, x += kGroup, codes += kGroup) {
    float most = 0;
    for (int c = 0; c < kGroup; ++c) most = std::max(most, std::fabs(x[c]));
    const float inverse = most > 0 ? kMost / most : 0;
    int sum = 0;
    for (int c = 0; c < kGroup; ++c) {
      const auto code = static_cast<Code>(std::nearbyint(std::fmin(std::fmax(x[c] * inverse, -kMost), kMost)));
      codes[place<Code>(c)] = code;
      sum += code;
    }
    const float scale = most / kMost;
    factors[g] = {scale, scale * static_cast<float>(sum)};
  }
}

// The 256 codes of 8 rows by 32 columns in pieces of 32 (PackedView), small floats doubled.
void unpack(const PackedView& w, const uint8_t* from, int16_t* codes) {
  if (!w.nibbles()) {
    std::copy_n(from, 256, codes);
    return;
  }
  const bool affine = w.format == Format::affine;
  for (int i = 0; i < 128; ++i) {
    codes[i] = affine ? from[i] & 15 : kTwiceE2m1[from[i] & 15];
    codes[i + 128] = affine ? from[i] >> 4 : kTwiceE2m1[from[i] >> 4];
  }
}

// What multiplies unpacked codes of row r and the first or second 16 columns.
float scale_of(const PackedView& w, const uint8_t* group, int r, int half) {
  return w.format == Format::affine ? load_number(w.type, group, r) : 0.5f * small_float_scale(w, group, r, 16 * half);
}

float bias_of(const PackedView& w, const uint8_t* group, int r) {
  return w.format == Format::affine ? load_number(w.type, group, kBlock + r) : 0;
}

// Of all but mxfp8.
template <class Code>
void products(const PackedView& w, int first, int last, const QuantizedRows<Code>& x, int n, float* y) {
  constexpr int kMost = 4;  // activation rows per pass over the weights
  const int parts = w.format == Format::nvfp4 ? 2 : 1;
  for (int i0 = 0; i0 < n; i0 += kMost) {
    const int count = std::min(kMost, n - i0);
    for (int block = first; block < last; ++block) {
      const uint8_t* from = w.data + block * w.block_bytes();
      float sums[kMost][kBlock] = {};
      for (int c = 0; c < w.cols; c += kGroup) {
        const uint8_t* group = from + c / w.group_size * w.group_bytes();
        int16_t codes[256];
        unpack(w, group + w.header_bytes() + c % w.group_size / kGroup * w.piece_bytes(), codes);
        for (int i = 0; i < count; ++i) {
          const QuantizedRows<Code> row = x.from(i0 + i);
          int whole[2][kBlock] = {};
          for (int j = 0; j < 256; ++j) {
            whole[j * parts / 256][j / 4 % kBlock] += codes[j] * row.codes[c + place<Code>(j / 32 * 4 + j % 4)];
          }
          const Factor factor = row.factors[c / kGroup];
          for (int r = 0; r < kBlock; ++r) {
            sums[i][r] += bias_of(w, group, r) * factor.sum;
            for (int p = 0; p < parts; ++p) {
              sums[i][r] += static_cast<float>(whole[p][r]) * (scale_of(w, group, r, p) * factor.scale);
            }
          }
        }
      }
      const int rows = std::min(kBlock, w.rows - block * kBlock);
      for (int i = 0; i < count; ++i) {
        std::copy_n(sums[i], rows, y + static_cast<size_t>(i0 + i) * w.rows + block * kBlock);
      }
    }
  }
}

void dequantize(const PackedView& w, int block, int begin, int end, float* panel) {
  for (int c = begin; c < end; c += kGroup) {
    const uint8_t* group = w.data + block * w.block_bytes() + c / w.group_size * w.group_bytes();
    int16_t codes[256];
    if (w.format == Format::affine) {
      unpack(w, group + w.header_bytes() + c % w.group_size / kGroup * w.piece_bytes(), codes);
    }
    for (int k = 0; k < kGroup; ++k, panel += kBlock) {
      for (int r = 0; r < kBlock; ++r) {
        panel[r] = w.format == Format::affine
                       ? load_number(w.type, group, r) * codes[k / 4 * 32 + r * 4 + k % 4] + bias_of(w, group, r)
                       : small_float(w, group, r, k) * small_float_scale(w, group, r, k);
      }
    }
  }
}

void mxfp8_few(const PackedView& w, int first, int last, const float* x, int n, float* y) {
  std::vector<float> panel(static_cast<size_t>(w.cols) * kBlock);
  for (int block = first; block < last; ++block) {
    dequantize(w, block, 0, w.cols, panel.data());
    panel_product(panel.data(), kBlock, w.cols, x, w.cols, n, y + block * kBlock, w.rows,
                  std::min(kBlock, w.rows - block * kBlock), /*add=*/false);
  }
}

float exp_sum(float* s, int n, float high) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += s[i] = std::exp(s[i] - high);
  return sum;
}

void nibbles(const uint8_t* from, size_t n, uint8_t* codes) {
  for (size_t i = 0; i < n; i += 2) codes[i] = from[i / 2] & 15, codes[i + 1] = from[i / 2] >> 4;
}

void affine(const uint8_t* codes, size_t n, float scale, float bias, float* to) {
  for (size_t i = 0; i < n; ++i) to[i] = scale * codes[i] + bias;
}

void scale(float* y, int n, float factor) {
  for (int i = 0; i < n; ++i) y[i] *= factor;
}

void rms_norm(const float* x, const float* weight, int size, float eps, float* out) {
  double sum = 0;
  for (int i = 0; i < size; ++i) sum += static_cast<double>(x[i]) * x[i];
  const float factor = static_cast<float>(1 / std::sqrt(sum / size + eps));
  for (int i = 0; i < size; ++i) out[i] = x[i] * factor * (weight == nullptr ? 1 : weight[i]);
}

void swiglu(const float* gate, const float* up, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

// Sums of products; before each round its factors become unknown, and are read from the first-level cache.
template <class Code, class Sum>
double peak(int64_t rounds) {
  constexpr int kChains = 64;
  Code codes[kChains], x[kChains];
  Sum sums[kChains] = {};
  std::fill_n(codes, kChains, Code(1));
  std::fill_n(x, kChains, Code(2));
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : : "r"(codes), "r"(x) : "memory");
    for (int k = 0; k < kChains; ++k) sums[k] += static_cast<Sum>(codes[k]) * static_cast<Sum>(x[k]);
  }
  asm volatile("" : : "r"(sums) : "memory");
  return static_cast<double>(rounds) * kChains;
}

}  // namespace

double int8_peak(int64_t rounds) { return peak<int8_t, int32_t>(rounds); }
double int16_peak(int64_t rounds) { return peak<int16_t, int32_t>(rounds); }
double float32_peak(int64_t rounds) { return peak<float, float>(rounds); }

void quantize_affine(const float* x, int n, float most, uint8_t* codes, float* scale, float* bias) {
  float low = std::numeric_limits<float>::infinity(), high = -low;
  for (int i = 0; i < n; ++i) high = std::max(high, x[i]), low = std::min(low, x[i]);
  const AffineGroup group(low, high, most);
  for (int i = 0; i < n; ++i) {
    codes[i] = static_cast<uint8_t>(std::fmin(std::fmax(std::nearbyint((x[i] - group.bias) / group.scale), 0.f), most));
  }
  *scale = group.scale, *bias = group.bias;
}

float max(const float* s, int n) {
  float most = -std::numeric_limits<float>::infinity();
  for (int i = 0; i < n; ++i) most = std::max(most, s[i]);
  return most;
}

void soft_cap(float* s, int n, float cap) {
  for (int i = 0; i < n; ++i) s[i] = cap * std::tanh(s[i] / cap);
}

void layer_norm(const float* x, const float* weight, const float* bias, int size, float eps, float* out) {
  double sum = 0, squares = 0;
  for (int i = 0; i < size; ++i) sum += x[i];
  const float mean = static_cast<float>(sum / size);
  for (int i = 0; i < size; ++i) squares += static_cast<double>(x[i] - mean) * (x[i] - mean);
  const float factor = static_cast<float>(1 / std::sqrt(squares / size + eps));
  for (int i = 0; i < size; ++i) {
    out[i] = (x[i] - mean) * factor * (weight == nullptr ? 1 : weight[i]) + (bias == nullptr ? 0 : bias[i]);
  }
}

void geglu(const float* gate, const float* up, size_t n, Gelu kind, float* out) {
  for (size_t i = 0; i < n; ++i) {
    const float x = gate[i];
    const float share =
        kind == Gelu::erf ? std::erf(x * 0.70710678f) : std::tanh(0.79788456f * (x + 0.044715f * x * x * x));
    out[i] = 0.5f * x * (1 + share) * (up == nullptr ? 1 : up[i]);
  }
}

}  // namespace scalar

constinit const Table kScalar = {
    .name = "scalar",
    .small_floats = true,
    .to_float = scalar::to_float,
    .from_float = scalar::from_float,
    .dots = dots_one_by_one<scalar::dots>,
    .weighted_sums = weighted_sums_one_by_one<scalar::weighted_sum>,
    .panel = scalar::panel,
    .panel_product = scalar::panel_product,
    .panel_products = panel_products_one_by_one<scalar::panel_product>,
    .nibbles = scalar::nibbles,
    .affine = scalar::affine,
    .quantize_affine = scalar::quantize_affine,
    .int8 = {scalar::quantize<int8_t>, scalar::products<int8_t>, scalar::products<int8_t>},
    .int16 = {scalar::quantize<int16_t>, scalar::products<int16_t>, scalar::products<int16_t>},
    .mxfp8_few = scalar::mxfp8_few,
    .dequantize = scalar::dequantize,
    .exp_sum = scalar::exp_sum,
    .scale = scalar::scale,
    .rms_norm = scalar::rms_norm,
    .swiglu = scalar::swiglu,
    .max = scalar::max,
    .soft_cap = scalar::soft_cap,
    .layer_norm = scalar::layer_norm,
    .geglu = scalar::geglu,
    .peaks = {scalar::int8_peak, scalar::int16_peak, scalar::float32_peak},
    .states = &kScalarStates,
};

}  // namespace mlx_lm::kernels
