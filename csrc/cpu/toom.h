// Toom-Cook transforms for a transposed convolution of kernel 5 and stride 2, along a row.
//
// Output columns of one parity are the polynomial product of the input columns with the 3 even (or 2 odd) weights. Four
// input columns make a tile (three where the row ends). A product of N coefficients is known from its values at N
// points, always the first N of 0, 1, -1, infinity, 2, -2: 6 for even and 5 for odd columns instead of 12 and 8
// multiplications, one less each in a short tile. Values of the weights at 1 and -1 are stored halved and at 2 and -2
// divided by 24, which takes the divisions out of the interpolation. Gradients use the transposed transforms.
//
// No sum here has two inexact products: which of them the compiler fuses would differ from one function to the next.
#pragma once

#include "simd.h"

namespace arena::ARENA_ISA {

constexpr int kPoints = 6;

// Values at the points (before their scale) of the polynomial with these weights; at infinity it is the last one.
inline double weight_value(const double* weights, int count, int point) {
  constexpr double at[kPoints] = {0, 1, -1, 0, 2, -2}, scale[kPoints] = {1, 0.5, 0.5, 1, 1.0 / 24, 1.0 / 24};
  if (point == 3) return weights[count - 1];
  double value = 0;
  for (int i = count - 1; i >= 0; --i) value = value * at[point] + weights[i];
  return value * scale[point];
}

// Input columns a[N] -> their values at N + 2 points.
template <int N>
ARENA_INLINE void evaluate(const V* a, V* p) {
  const V even = a[0] + a[2];
  if constexpr (N == 3) {
    p[0] = a[0], p[1] = even + a[1], p[2] = even - a[1], p[3] = a[2];
    p[4] = a[0] + a[1] * 2.0f + a[2] * 4.0f;
  } else {
    const V odd = a[1] + a[3], even2 = a[0] + a[2] * 4.0f, odd2 = a[1] + a[3] * 4.0f;
    p[0] = a[0], p[1] = even + odd, p[2] = even - odd, p[3] = a[3];
    p[4] = even2 + odd2 * 2.0f, p[5] = even2 - odd2 * 2.0f;
  }
}

// Gradient at N + 2 points -> gradient of a[N].
template <int N>
ARENA_INLINE void evaluate_transposed(const V* p, V* a) {
  const V sum = p[1] + p[2], difference = p[1] - p[2];
  if constexpr (N == 3) {
    a[0] = p[0] + sum + p[4], a[1] = difference + p[4] * 2.0f, a[2] = p[3] + sum + p[4] * 4.0f;
  } else {
    const V sum2 = p[4] + p[5], difference2 = p[4] - p[5];
    a[0] = p[0] + sum + sum2, a[1] = difference + difference2 * 2.0f;
    a[2] = sum + sum2 * 4.0f, a[3] = p[3] + difference + difference2 * 8.0f;
  }
}

// Values of a product at N points -> its coefficients y[N].
template <int N>
ARENA_INLINE void interpolate(const V* p, V* y) {
  const V even = p[1] + p[2], odd = p[1] - p[2];
  y[0] = p[0], y[N - 1] = p[3];
  if constexpr (N == 4) {
    y[2] = even - p[0], y[1] = odd - p[3];
  } else if constexpr (N == 5) {
    y[2] = even - p[0] - p[3];
    y[3] = (p[4] - (p[0] + y[2] * 4.0f + p[3] * 16.0f + odd * 2.0f) * (1.0f / 24)) * 4.0f;
    y[1] = odd - y[3];
  } else {
    y[4] = p[4] + p[5] - even * (1.0f / 3) + p[0] * 0.25f;
    y[3] = (p[4] - p[5] - odd * (1.0f / 6) - p[3] * 2.5f) * 2.0f;
    y[2] = even - p[0] - y[4], y[1] = odd - y[3] - p[3];
  }
}

// Gradient of the coefficients y[N] -> gradient of the values at N points.
template <int N>
ARENA_INLINE void interpolate_transposed(const V* y, V* p) {
  V even, odd;
  if constexpr (N == 4) {
    even = y[2], odd = y[1];
    p[0] = y[0] - y[2], p[3] = y[3] - y[1];
  } else if constexpr (N == 5) {
    const V y3 = y[3] - y[1];
    even = y[2] - y3 * (2.0f / 3), odd = y[1] - y3 * (1.0f / 3);
    p[0] = y[0] - y3 * (1.0f / 6) - even, p[3] = y[4] - y3 * (8.0f / 3) - even, p[4] = y3 * 4.0f;
  } else {
    const V y4 = y[4] - y[2], y3 = y[3] - y[1];
    even = y[2] - y4 * (1.0f / 3), odd = y[1] - y3 * (1.0f / 3);
    p[0] = y[0] - y[2] + y4 * 0.25f, p[3] = y[5] - y[1] - y3 * 5.0f;
    p[4] = y4 + y3 * 2.0f, p[5] = y4 - y3 * 2.0f;
  }
  p[1] = even + odd, p[2] = even - odd;
}

}  // namespace arena::ARENA_ISA
