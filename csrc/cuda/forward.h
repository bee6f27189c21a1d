// The decoder, forward, for a tile of latent points of one class.
#pragma once

#include <cmath>

#include "layout.h"

namespace arena::cuda {

// Written so that there is nothing to branch around.
ARENA_BODY float elu(float x) {
  const float below = expf(x < 0.0f ? x : 0.0f) - 1.0f;
  return x < 0.0f ? below : x;
}

ARENA_BODY float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Layer 1: z [points][kLatent] -> hidden [points][Input<1>::floats], `stride` floats apart. weights: Packed.
template <class ThreadBlock>
ARENA_BODY void decode_first(const ThreadBlock& block, const float* packed, const float* z, int points, float* hidden,
                             int stride) {
  constexpr int size = Input<1>::floats;
  block.each(points * size, [&](int i) {
    const int point = i / size, cell = i % size;
    float sum = packed[Packed::bias1 + cell / Input<1>::channel];
    ARENA_UNROLLED_FOR (int j = 0; j < kLatent; ++j)
      sum = __builtin_fmaf(packed[Packed::weights1 + j * size + cell], z[point * kLatent + j], sum);
    hidden[point * stride + cell] = elu(sum);
  });
}

// Layer 2 or 3 (LAYER 1 or 2): an item makes a whole row of one channel, in registers, from the rows of weights that
// exist: no weight is wasted at an edge. Lanes are output channels, so a row of input is one access for all of them.
template <int LAYER, int TILE, class ThreadBlock>
ARENA_BODY void decode_strided(const ThreadBlock& block, const float* packed, const float* from, int from_stride,
                               float* to) {
  using In = Input<LAYER>;
  using Out = Input<LAYER + 1>;
  block.each(kChannels * TILE * Out::size, [&](int i) {
    const int out = i % kChannels, point = i / kChannels % TILE, y = row_in_order<Out::size>(i / (kChannels * TILE));
    const int lowest = y - kStride * (In::size - 1), first = lowest > y % kStride ? lowest : y % kStride;
    float sum[Out::row] = {};
    for (int ky = first; ky < kKernel && ky <= y; ky += kStride) {
      const float* weights = packed + packed_weights<LAYER> + ky * kKernel * kChannels + out;
      const float* rows = from + point * from_stride + (y - ky) / kStride * In::row;
      ARENA_UNROLLED_BY_4_FOR (int in = 0; in < In::channels; ++in) {
        float row[In::row], weight[kKernel];
        load(rows + in * In::channel, row);
        ARENA_UNROLLED_FOR (int kx = 0; kx < kKernel; ++kx)
          weight[kx] = weights[in * Packed::in_channel + kx * kChannels];
        ARENA_UNROLLED_FOR (int x = 0; x < In::size; ++x)
          ARENA_UNROLLED_FOR (int kx = 0; kx < kKernel; ++kx)
            sum[kStride * x + kx] = __builtin_fmaf(row[x], weight[kx], sum[kStride * x + kx]);
      }
    }
    const float bias = packed[packed_bias<LAYER> + out];
    ARENA_UNROLLED_FOR (int x = 0; x < Out::size; ++x) sum[x] = elu(sum[x] + bias);
    store(sum, to + point * Out::point + out * Out::channel + y * Out::row);
  });
}

// Layer 4, without its bias and sigmoid: an item makes a row of the image from half of the channels. Lanes are rows.
// Rows beyond the edge are read as the nearest one with weights of zero: without a branch the loads run ahead.
template <int TILE, class ThreadBlock>
ARENA_BODY void decode_last(const ThreadBlock& block, const float* packed, const float* hidden, float* sums) {
  using In = Input<3>;
  constexpr int kernel = 4, halves = 2;
  block.each(halves * TILE * kSide, [&](int i) {
    const int y = i % kSide, point = i / kSide % TILE, half = i / (kSide * TILE);
    float sum[kSide] = {};
    for (int channel = half * (In::channels / halves); channel < (half + 1) * (In::channels / halves); ++channel)
      ARENA_UNROLLED_FOR (int ky = 0; ky < kernel; ++ky) {
        const int inside = y < ky ? 0 : y - ky < In::size ? y - ky : In::size - 1;
        float weight[kernel], row[In::row];
        load(packed + Packed::weights4 + channel * Packed::last_channel + ky * kernel, weight);
        load(hidden + point * In::point + channel * In::channel + inside * In::row, row);
        ARENA_UNROLLED_FOR (int kx = 0; kx < kernel; ++kx) weight[kx] = inside == y - ky ? weight[kx] : 0.0f;
        ARENA_UNROLLED_FOR (int x = 0; x < In::size; ++x)
          ARENA_UNROLLED_FOR (int kx = 0; kx < kernel; ++kx)
            sum[x + kx] = __builtin_fmaf(row[x], weight[kx], sum[x + kx]);
      }
    store(sum, sums + (half * TILE + point) * kPixels + y * kSide);
  });
}

// Layers 2 to 4 of a tile, from hidden1 (of `stride` floats a point) into at.sums.
template <int TILE, class ThreadBlock>
ARENA_BODY void decode_tile(const ThreadBlock& block, const float* packed, const float* hidden1, int stride,
                            const Activations<TILE>& at) {
  decode_strided<1, TILE>(block, packed, hidden1, stride, at.hidden2);
  decode_strided<2, TILE>(block, packed, at.hidden2, Input<2>::point, at.hidden3);
  decode_last<TILE>(block, packed, at.hidden3, at.sums);
}

// Pixel i of a tile that `decode_tile` has decoded, i = point * kPixels + pixel.
template <int TILE>
ARENA_BODY float pixel(const float* packed, const Activations<TILE>& at, int i) {
  return sigmoid(at.sums[i] + at.sums[Activations<TILE>::half + i] + packed[Packed::bias4]);
}

}  // namespace arena::cuda
