// The small steps between the products.
#include "mlx_lm/kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

struct SinCos {
  float sin, cos;
};

// Of an angle of up to 10^9 or so: the reduction by multiples of pi/2 in float64 leaves an error of 1e-16 per unit of
// the angle, and the polynomials (Taylor, |r| <= pi/4) one of 1e-10. Several times faster than libm's.
SinCos sin_cos(double angle) {
  const double quarters = std::floor(angle * 0.63661977236758134308 + 0.5);
  double r = angle - quarters * 1.57079632679489655800;
  r -= quarters * 6.12323399573676603587e-17;
  const double s = r * r;
  const double sine =
      r * (1 + s * (-1. / 6 + s * (1. / 120 + s * (-1. / 5040 + s * (1. / 362880 + s * (-1. / 39916800))))));
  const double cosine =
      1 + s * (-1. / 2 + s * (1. / 24 + s * (-1. / 720 + s * (1. / 40320 + s * (-1. / 3628800 + s / 479001600)))));
  const int64_t turn = static_cast<int64_t>(quarters) & 3;
  const double a = turn & 1 ? cosine : sine, b = turn & 1 ? sine : cosine;
  return {static_cast<float>(turn & 2 ? -a : a), static_cast<float>(turn == 1 || turn == 2 ? -b : b)};
}

void rotate_head(const float* x, const RopeArgs& args, const float* sines, const float* cosines, float* out) {
  const int half = args.dims / 2;
  const int step = args.traditional ? 2 : 1, apart = args.traditional ? 1 : half;
  for (int i = 0; i < half; ++i) {
    const float a = x[i * step], b = x[i * step + apart];
    out[i * step] = a * cosines[i] - b * sines[i];
    out[i * step + apart] = a * sines[i] + b * cosines[i];
  }
  if (out != x) std::copy(x + 2 * half, x + args.head_dim, out + 2 * half);
}

}  // namespace

void rms_norm(const float* x, const float* weight, int n, int size, float eps, float* out) {
  const Table& t = table();
  parallel_pieces(n, 4, 1. * n * size, [&](int first, int last) {
    for (size_t i = first; i < static_cast<size_t>(last); ++i)
      t.rms_norm(x + i * size, weight, size, eps, out + i * size);
  });
}

void add_rms_norm(const float* a, const float* x, const float* weight, int n, int size, float eps, float* out) {
  const Table& t = table();
  parallel_pieces(n, 4, 1. * n * size, [&](int first, int last) {
    for (size_t i = first; i < static_cast<size_t>(last); ++i) {
      float* const row = out + i * size;
      t.rms_norm(x + i * size, weight, size, eps, row);
      for (int k = 0; k < size; ++k) row[k] += a[i * size + k];
    }
  });
}

namespace {

// work(begin, count) for pieces of n numbers; cost: of one, as parallel() counts it.
template <class F>
void by_pieces(size_t n, double cost, F work) {
  constexpr size_t kPiece = 4096;
  parallel(static_cast<int>((n + kPiece - 1) / kPiece), cost * n, [&](int i) {
    const size_t begin = i * kPiece;
    work(begin, std::min(kPiece, n - begin));
  });
}

}  // namespace

void scale(const float* x, size_t n, float factor, float* out) {
  by_pieces(n, 1, [&](size_t begin, size_t count) {
    for (size_t i = begin; i < begin + count; ++i) out[i] = x[i] * factor;
  });
}

void soft_cap(const float* x, size_t n, float cap, float* out) {
  const Table& t = table();
  by_pieces(n, 4, [&](size_t begin, size_t count) {
    if (out != x) std::copy_n(x + begin, count, out + begin);
    t.soft_cap(out + begin, static_cast<int>(count), cap);
  });
}

void add(const float* a, const float* b, size_t n, float* out) {
  by_pieces(n, 1, [&](size_t begin, size_t count) {
    for (size_t i = begin; i < begin + count; ++i) out[i] = a[i] + b[i];
  });
}

void multiply(const float* a, const float* b, int n, int size, float* out) {
  parallel_pieces(n, 4, 1. * n * size, [&](int first, int last) {
    for (size_t i = first; i < static_cast<size_t>(last); ++i) {
      for (int k = 0; k < size; ++k) out[i * size + k] = a[i * size + k] * b[k];
    }
  });
}

void sparse_geglu(const float* gate, const float* up, int n, int size, float deviations, float* out) {
  const Table& t = table();
  parallel_pieces(n, 1, 8. * n * size, [&](int first, int last) {
    for (size_t i = first; i < static_cast<size_t>(last); ++i) {
      const float* const row = gate + i * size;
      double sum = 0, squares = 0;
      for (int k = 0; k < size; ++k) sum += row[k];
      const double mean = sum / size;
      for (int k = 0; k < size; ++k) squares += (row[k] - mean) * (row[k] - mean);
      const float cutoff = static_cast<float>(mean) + static_cast<float>(std::sqrt(squares / size)) * deviations;
      thread_local std::vector<float> above;
      if (above.size() < static_cast<size_t>(size)) above.resize(size);
      for (int k = 0; k < size; ++k) above[k] = row[k] > cutoff ? row[k] - cutoff : 0;
      t.geglu(above.data(), up + i * size, size, Gelu::tanh, out + i * size);
    }
  });
}

void swiglu(const float* gate, const float* up, size_t n, float* out) {
  const Table& t = table();
  by_pieces(n, 4, [&](size_t begin, size_t count) { t.swiglu(gate + begin, up + begin, count, out + begin); });
}

void layer_norm(const float* x, const float* weight, const float* bias, int n, int size, float eps, float* out) {
  const Table& t = table();
  parallel_pieces(n, 4, 2. * n * size, [&](int first, int last) {
    for (size_t i = first; i < static_cast<size_t>(last); ++i) {
      t.layer_norm(x + i * size, weight, bias, size, eps, out + i * size);
    }
  });
}

void geglu(const float* gate, const float* up, size_t n, Gelu kind, float* out) {
  const Table& t = table();
  by_pieces(n, 4, [&](size_t begin, size_t count) {
    t.geglu(gate + begin, up == nullptr ? nullptr : up + begin, count, kind, out + begin);
  });
}

void rope(const float* x, const RopeArgs& args, float* out) {
  const int half = args.dims / 2;
  const size_t row = static_cast<size_t>(args.heads) * args.head_dim;
  const int rows = args.batch * args.length;
  parallel_pieces(rows, 8, 2. * rows * (row + 8. * half), [&](int first, int last) {
    thread_local std::vector<float> angles;
    if (angles.size() < 2 * static_cast<size_t>(half)) angles.resize(2 * half);
    float* const sines = angles.data();
    float* const cosines = sines + half;
    for (int i = first; i < last; ++i) {
      const double position = args.offset + i % args.length;
      for (int k = 0; k < half; ++k) {
        const SinCos value = sin_cos(position * args.rates[k]);
        sines[k] = value.sin * args.magnitude;
        cosines[k] = value.cos * args.magnitude;
      }
      for (int h = 0; h < args.heads; ++h) {
        const size_t at = i * row + static_cast<size_t>(h) * args.head_dim;
        rotate_head(x + at, args, sines, cosines, out + at);
      }
    }
  });
}

void write_rows(const float* new_rows, int batch, int length, int heads, int head_dim, void* buffer, Type type,
                int capacity, int position) {
  const Table& t = table();
  const int rows = batch * length;
  parallel_pieces(rows, 8, 1. * rows * heads * head_dim, [&](int first, int last) {
    for (int i = first; i < last; ++i) {
      for (int k = 0; k < heads; ++k) {
        const size_t head = static_cast<size_t>(i / length) * heads + k;
        const size_t to = (head * capacity + position + i % length) * head_dim * size_of(type);
        t.from_float(new_rows + (static_cast<size_t>(i) * heads + k) * head_dim, head_dim, type,
                     static_cast<char*>(buffer) + to);
      }
    }
  });
}

void predict_streams(const Streams& s, const float* mixing) {
  const size_t n = s.in.size(), size = static_cast<size_t>(s.size);
  parallel_pieces(s.rows, 1, 2. * static_cast<double>(n * n) * s.rows * s.size, [&](int first, int last) {
    for (size_t r = first; r < static_cast<size_t>(last); ++r) {
      for (size_t j = 0; j < n; ++j) {
        float* const out = s.out[j] + r * size;
        std::copy_n(s.in[j] + r * size, size, out);
        for (size_t i = 0; i < n; ++i) {
          const float factor = mixing[(r * n + j) * n + i];
          const float* const in = s.in[i] + r * size;
          for (size_t k = 0; k < size; ++k) out[k] += factor * in[k];
        }
      }
    }
  });
}

void correct_streams(const Streams& s, const float* computed, const float* correction, int active) {
  const size_t n = s.in.size(), size = static_cast<size_t>(s.size);
  parallel_pieces(s.rows, 1, 2. * static_cast<double>(n) * s.rows * s.size, [&](int first, int last) {
    for (size_t r = first; r < static_cast<size_t>(last); ++r) {
      const float *const wanted = computed + r * size, *const found = s.in[active] + r * size;
      for (size_t j = 0; j < n; ++j) {
        const float factor = 1 + correction[r * n + j];
        const float* const in = s.in[j] + r * size;
        float* const out = s.out[j] + r * size;
        for (size_t k = 0; k < size; ++k) out[k] = in[k] + factor * (wanted[k] - found[k]);
      }
    }
  });
}

}  // namespace mlx_lm::kernels
