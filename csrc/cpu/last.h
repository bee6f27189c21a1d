// The last layer: 16 channels of 25 x 25 to one of 28 x 28, kernel 4, stride 1. Lanes are channels on both sides.
#pragma once

#include "weights.h"

namespace arena::ARENA_ISA {

constexpr int kKernel4 = kLayers[3].kernel;

// Columns FIRST ... FIRST + W - 1 of output row y: one sum a column, then over the lanes of all of them at once.
template <int FIRST>
ARENA_INLINE void decode_columns(const float* weights, float bias, const float* hidden, int y, float* image) {
  constexpr int from = FIRST < kKernel4 ? 0 : FIRST - kKernel4 + 1, to = FIRST + W < kSize3 ? FIRST + W : kSize3;
  V sum[W] = {};
  for (int ky = 0; ky < kKernel4; ++ky) {
    if (y < ky || y - ky >= kSize3) continue;
    for (int lane = 0; lane < kChannels3; lane += W) {
      const float* row = hidden + (y - ky) * kSize3 * kChannels3 + lane;
      V weight[kKernel4];
      unroll<kKernel4>(
          [&](auto kx) ARENA_INLINE_LAMBDA { weight[kx] = load(weights + (ky * kKernel4 + kx) * kChannels3 + lane); });
      unroll<to - from>([&](auto i) ARENA_INLINE_LAMBDA {
        const V h = load(row + (from + i) * kChannels3);
        unroll<kKernel4>([&](auto kx) ARENA_INLINE_LAMBDA {
          constexpr int column = from + i + kx - FIRST;
          if constexpr (column >= 0 && column < W) sum[column] += h * weight[kx];
        });
      });
    }
  }
  store(image + y * kSide + FIRST, sums(sum) + bias);
}

// Gradient of the image -> row y of the gradient of the hidden channels [x][channel].
template <int FIRST, int COUNT>
ARENA_INLINE void decode_columns_backward(const float* weights, const float* gradient, int y, float* row) {
  for (int lane = 0; lane < kChannels3; lane += W) {
    V sum[COUNT] = {};
    for (int ky = 0; ky < kKernel4; ++ky) {
      V weight[kKernel4];
      unroll<kKernel4>(
          [&](auto kx) ARENA_INLINE_LAMBDA { weight[kx] = load(weights + (ky * kKernel4 + kx) * kChannels3 + lane); });
      unroll<COUNT + kKernel4 - 1>([&](auto i) ARENA_INLINE_LAMBDA {
        const float g = gradient[(y + ky) * kSide + FIRST + i];
        unroll<kKernel4>([&](auto kx) ARENA_INLINE_LAMBDA {
          if constexpr (i >= kx && i - kx < COUNT) sum[i - kx] += weight[kx] * g;
        });
      });
    }
    unroll<COUNT>([&](auto i) ARENA_INLINE_LAMBDA { store(row + (FIRST + i) * kChannels3 + lane, sum[i]); });
  }
}

}  // namespace arena::ARENA_ISA
