// The last layer: 16 maps of 25 x 25 to one of 28 x 28, kernel 4, stride 1. Lanes are maps on both sides.
#pragma once

#include "weights.h"

namespace arena::ARENA_ISA {

constexpr int kTaps4 = kLayers[3].kernel;

// Columns FIRST ... FIRST + W - 1 of output row y: one sum a column, then over the lanes of all of them at once.
template <int FIRST>
ARENA_INLINE void draw_columns(const float* taps, float bias, const float* hidden, int y, float* image) {
  constexpr int from = FIRST < kTaps4 ? 0 : FIRST - kTaps4 + 1, to = FIRST + W < kSize3 ? FIRST + W : kSize3;
  V sum[W] = {};
  for (int ky = 0; ky < kTaps4; ++ky) {
    if (y < ky || y - ky >= kSize3) continue;
    for (int lane = 0; lane < kMaps3; lane += W) {
      const float* row = hidden + (y - ky) * kSize3 * kMaps3 + lane;
      V tap[kTaps4];
      unroll<kTaps4>([&](auto kx) ARENA_INLINE_LAMBDA { tap[kx] = load(taps + (ky * kTaps4 + kx) * kMaps3 + lane); });
      unroll<to - from>([&](auto i) ARENA_INLINE_LAMBDA {
        const V h = load(row + (from + i) * kMaps3);
        unroll<kTaps4>([&](auto kx) ARENA_INLINE_LAMBDA {
          constexpr int column = from + i + kx - FIRST;
          if constexpr (column >= 0 && column < W) sum[column] += h * tap[kx];
        });
      });
    }
  }
  store(image + y * kSide + FIRST, sums(sum) + bias);
}

// Gradient of the image -> row y of the gradient of the hidden maps [x][map].
template <int FIRST, int COUNT>
ARENA_INLINE void draw_columns_back(const float* taps, const float* gradient, int y, float* row) {
  for (int lane = 0; lane < kMaps3; lane += W) {
    V sum[COUNT] = {};
    for (int ky = 0; ky < kTaps4; ++ky) {
      V tap[kTaps4];
      unroll<kTaps4>([&](auto kx) ARENA_INLINE_LAMBDA { tap[kx] = load(taps + (ky * kTaps4 + kx) * kMaps3 + lane); });
      unroll<COUNT + kTaps4 - 1>([&](auto i) ARENA_INLINE_LAMBDA {
        const float g = gradient[(y + ky) * kSide + FIRST + i];
        unroll<kTaps4>([&](auto kx) ARENA_INLINE_LAMBDA {
          if constexpr (i >= kx && i - kx < COUNT) sum[i - kx] += tap[kx] * g;
        });
      });
    }
    unroll<COUNT>([&](auto i) ARENA_INLINE_LAMBDA { store(row + (FIRST + i) * kMaps3 + lane, sum[i]); });
  }
}

}  // namespace arena::ARENA_ISA
