// The loops of state_loops.h for a vector instruction set V, which has
//   F, kWidth                          a vector of float32, its numbers
//   set(x), fma(a, b, c), exp(x), max(a, b), sum(x), and F's own + - * /
//   load(p), store(p, v), load_part(p, n), store_part(p, v, n)
// Included only where the set is on; everything is in an unnamed namespace, see convert.h.
#pragma once

#include "mlx_lm/kernels/state_loops.h"

namespace mlx_lm::kernels {
namespace {

template <class V>
struct StateLoopsOf {
  using F = typename V::F;
  static constexpr int kWidth = V::kWidth;

  // Calls body(at, load, store) for all of n numbers: whole vectors, then what is left.
  template <class Body>
  static void for_all(int n, Body body) {
    int i = 0;
    for (; i + kWidth <= n; i += kWidth) {
      body(
          i, [](const float* p) { return V::load(p); }, [](float* p, F v) { V::store(p, v); });
    }
    if (const int left = n - i; left > 0) {
      body(
          i, [=](const float* p) { return V::load_part(p, left); }, [=](float* p, F v) { V::store_part(p, v, left); });
    }
  }

  static F sigmoid(F x) { return V::set(1) / (V::set(1) + V::exp(V::set(0) - x)); }

  static void convolve(const float* const* rows, const float* weight, size_t stride, int taps, const float* bias, int n,
                       bool silu, float* out) {
    for_all(n, [&](int i, auto load, auto store) {
      F sum = bias == nullptr ? V::set(0) : load(bias + i);
      for (int k = 0; k < taps; ++k) sum = V::fma(load(weight + k * stride + i), load(rows[k] + i), sum);
      store(out + i, silu ? sum * sigmoid(sum) : sum);
    });
  }

  static void sigmoid_gate(const float* x, const float* gate, int n, float* out) {
    for_all(n, [&](int i, auto load, auto store) { store(out + i, load(x + i) * sigmoid(load(gate + i))); });
  }

  // max(x, 0) + log(1 + e), e = exp(-|x|), by the series of artanh: log(1 + e) = 2 artanh(s), s = e / (2 + e) <= 1/3.
  // The first term that is left out is below 2e-9 of the sum.
  static void softplus(const float* x, int n, float* out) {
    for_all(n, [&](int i, auto load, auto store) {
      const F value = load(x + i), zero = V::set(0);
      const F e = V::exp(zero - V::max(value, zero - value)), s = e / (V::set(2) + e), z = s * s;
      F p = V::set(1.f / 15);
      for (int k = 13; k > 0; k -= 2) p = V::fma(p, z, V::set(1.f / static_cast<float>(k)));
      store(out + i, V::fma(V::set(2) * s, p, V::max(value, zero)));
    });
  }

  static float dot(const float* a, const float* b, int n) {
    F sum = V::set(0);
    for_all(n, [&](int i, auto load, auto) { sum = V::fma(load(a + i), load(b + i), sum); });
    return V::sum(sum);
  }

  // So many rows at once share what is loaded of the token's vectors.
  template <int together, bool decay_each, bool correct>
  static void update_rows(const StateUpdate& u, int row) {
    const size_t cols = u.cols;
    const float* before = u.before + row * cols;
    float* after = u.after + row * cols;
    F by_key[together], by_query[together];
#pragma GCC unroll 4
    for (int r = 0; r < together; ++r) by_key[r] = by_query[r] = V::set(0);
    for_all(u.cols, [&](int c, auto load, auto) {
      const F query = load(u.decayed_query + c);
      const F key = correct ? load(u.decayed_key + c) : query;
#pragma GCC unroll 4
      for (int r = 0; r < together; ++r) {
        const F state = load(before + r * cols + c);
        by_query[r] = V::fma(state, query, by_query[r]);
        if (correct) by_key[r] = V::fma(state, key, by_key[r]);
      }
    });
    F written[together];
#pragma GCC unroll 4
    for (int r = 0; r < together; ++r) {
      const float value = correct ? u.values[row + r] - V::sum(by_key[r]) : u.values[row + r];
      u.out[row + r] = V::sum(by_query[r]) + u.write * value * u.key_query;
      written[r] = V::set(u.write * value);
    }
    for_all(u.cols, [&](int c, auto load, auto store) {
      const F key = load(u.key + c), decay = decay_each ? load(u.decay + c) : V::set(*u.decay);
#pragma GCC unroll 4
      for (int r = 0; r < together; ++r) {
        store(after + r * cols + c, V::fma(written[r], key, decay * load(before + r * cols + c)));
      }
    });
  }

  template <bool decay_each, bool correct>
  static void update_as(const StateUpdate& u) {
    int row = 0;
    for (; row + 4 <= u.rows; row += 4) update_rows<4, decay_each, correct>(u, row);
    for (; row < u.rows; ++row) update_rows<1, decay_each, correct>(u, row);
  }

  static void update(const StateUpdate& u, bool decay_each, bool correct) {
    if (decay_each) {
      correct ? update_as<true, true>(u) : update_as<true, false>(u);
    } else {
      correct ? update_as<false, true>(u) : update_as<false, false>(u);
    }
  }

  static void scan(const ScanUpdate& u) {
    for (int i = 0; i < u.n; ++i) {
      const size_t row = static_cast<size_t>(i) * u.size;
      const F step = V::set(-u.step[i]), written = V::set(u.step[i] * u.x[i]);
      F sum = V::set(0);
      for_all(u.size, [&](int n, auto load, auto store) {
        const F decay = V::exp(step * load(u.rate + row + n));
        const F state = u.before == nullptr ? V::set(0) : load(u.before + row + n);
        const F next = V::fma(decay, state, written * load(u.b + n));
        store(u.after + row + n, next);
        sum = V::fma(next, load(u.c + n), sum);
      });
      u.out[i] = V::sum(sum) + u.skip[i] * u.x[i];
    }
  }

  static constexpr StateLoops kLoops = {convolve, update, scan, softplus, sigmoid_gate, dot};
};

}  // namespace
}  // namespace mlx_lm::kernels
