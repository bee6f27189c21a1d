// One row of a strided layer on its way into and out of the Toom-Cook domain, with bias and activation.
//
// S is a Strided layer. A row of one point has TILES tiles, the last one SHORT by a column; where tiles of several
// points lie side by side (layer 2) TILES is 1 and the pointers select the point.
#pragma once

#include "strided.h"

namespace arena::ARENA_ISA {

// Input columns of tile t, and output columns of one parity of that tile.
template <int TILES, int SHORT>
constexpr int columns_in(int t) {
  return t == TILES - 1 ? 4 - SHORT : 4;
}
template <int TILES, int SHORT>
constexpr int columns_out(int t, int parity) {
  return columns_in<TILES, SHORT>(t) + 2 - parity;
}

// columns [x][channel] -> values.
template <class S, int TILES, int SHORT>
ARENA_INLINE void row_to_values(const float* columns, float* values) {
  for (int lane = 0; lane < S::channels_in; lane += W)
    unroll<TILES>([&](auto t) ARENA_INLINE_LAMBDA {
      constexpr int count = columns_in<TILES, SHORT>(t);
      V a[4], p[kPoints];
      unroll<count>([&](auto i) ARENA_INLINE_LAMBDA { a[i] = load(columns + (4 * t + i) * S::channels_in + lane); });
      evaluate<count>(a, p);
      unroll<count + 2>(
          [&](auto i) ARENA_INLINE_LAMBDA { store(values + i * S::value_point + t * S::channels_in + lane, p[i]); });
    });
}

// Gradient of the values -> gradient of the columns.
template <class S, int TILES, int SHORT>
ARENA_INLINE void values_to_row(const float* values, float* columns) {
  for (int lane = 0; lane < S::channels_in; lane += W)
    unroll<TILES>([&](auto t) ARENA_INLINE_LAMBDA {
      constexpr int count = columns_in<TILES, SHORT>(t);
      V a[4], p[kPoints];
      unroll<count + 2>(
          [&](auto i) ARENA_INLINE_LAMBDA { p[i] = load(values + i * S::value_point + t * S::channels_in + lane); });
      evaluate_transposed<count>(p, a);
      unroll<count>([&](auto i) ARENA_INLINE_LAMBDA { store(columns + (4 * t + i) * S::channels_in + lane, a[i]); });
    });
}

// products -> ELU of the output columns [x][channel]. Neighbouring tiles overlap by the kernel's length less one: add.
template <class S, int TILES, int SHORT>
ARENA_INLINE void products_to_row(const float* products, const float* bias, float* columns) {
  for (int lane = 0; lane < S::channels_out; lane += W)
    unroll<2>([&](auto parity) ARENA_INLINE_LAMBDA {
      constexpr int width = 4 * TILES - SHORT + 2 - parity;
      V y[width];
      unroll<width>([&](auto x) ARENA_INLINE_LAMBDA { y[x] = load(bias + lane); });
      unroll<TILES>([&](auto t) ARENA_INLINE_LAMBDA {
        constexpr int count = columns_out<TILES, SHORT>(t, parity);
        V p[kPoints], c[kPoints];
        unroll<count>([&](auto i) ARENA_INLINE_LAMBDA {
          p[i] = load(products + i * S::product_point + S::product_at(0, parity, t) + lane);
        });
        interpolate<count>(p, c);
        unroll<count>([&](auto i) ARENA_INLINE_LAMBDA { y[4 * t + i] += c[i]; });
      });
      unroll<width>([&](auto x)
                        ARENA_INLINE_LAMBDA { store(columns + (2 * x + parity) * S::channels_out + lane, elu(y[x])); });
    });
}

// gradient of ELU(columns), and its value -> gradient of the products.
template <class S, int TILES, int SHORT>
ARENA_INLINE void row_to_products(const float* gradient, const float* columns, float* products) {
  for (int lane = 0; lane < S::channels_out; lane += W)
    unroll<2>([&](auto parity) ARENA_INLINE_LAMBDA {
      constexpr int width = 4 * TILES - SHORT + 2 - parity;
      V y[width];
      unroll<width>([&](auto x) ARENA_INLINE_LAMBDA {
        const int at = (2 * x + parity) * S::channels_out + lane;
        y[x] = load(gradient + at) * elu_slope(load(columns + at));
      });
      unroll<TILES>([&](auto t) ARENA_INLINE_LAMBDA {
        constexpr int count = columns_out<TILES, SHORT>(t, parity);
        V p[kPoints];
        interpolate_transposed<count>(y + 4 * t, p);
        unroll<count>([&](auto i) ARENA_INLINE_LAMBDA {
          store(products + i * S::product_point + S::product_at(0, parity, t) + lane, p[i]);
        });
      });
    });
}

}  // namespace arena::ARENA_ISA
