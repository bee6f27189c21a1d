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
template <class Team>
ARENA_BODY void draw_first(const Team& team, const float* weights, const float* z, int points, float* hidden,
                           int stride) {
  constexpr int size = Input<1>::floats;
  team.each(points * size, [&](int i) {
    const int point = i / size, cell = i % size;
    float sum = weights[Packed::bias1 + cell / Input<1>::map];
    ARENA_UNROLL for (int j = 0; j < kLatent; ++j)
      sum = __builtin_fmaf(weights[Packed::taps1 + j * size + cell], z[point * kLatent + j], sum);
    hidden[point * stride + cell] = elu(sum);
  });
}

// Layer 2 or 3 (LAYER 1 or 2): an item makes a whole row of one map, in registers, from the rows of taps that exist:
// no tap is wasted at an edge. Lanes are output maps, so a row of input is one access for all of them.
template <int LAYER, int TILE, class Team>
ARENA_BODY void draw_strided(const Team& team, const float* weights, const float* from, int from_stride, float* to) {
  using In = Input<LAYER>;
  using Out = Input<LAYER + 1>;
  team.each(kMaps * TILE * Out::size, [&](int i) {
    const int out = i % kMaps, point = i / kMaps % TILE, y = row_in_order<Out::size>(i / (kMaps * TILE));
    const int lowest = y - kStride * (In::size - 1), first = lowest > y % kStride ? lowest : y % kStride;
    float sum[Out::row] = {};
    for (int ky = first; ky < kTaps && ky <= y; ky += kStride) {
      const float* taps = weights + packed_taps<LAYER> + ky * kTaps * kMaps + out;
      const float* rows = from + point * from_stride + (y - ky) / kStride * In::row;
      ARENA_UNROLL_BY(4) for (int in = 0; in < In::maps; ++in) {
        float row[In::row], tap[kTaps];
        load(rows + in * In::map, row);
        ARENA_UNROLL for (int kx = 0; kx < kTaps; ++kx) tap[kx] = taps[in * Packed::in_map + kx * kMaps];
        ARENA_UNROLL for (int x = 0; x < In::size; ++x)
          ARENA_UNROLL for (int kx = 0; kx < kTaps; ++kx)
            sum[kStride * x + kx] = __builtin_fmaf(row[x], tap[kx], sum[kStride * x + kx]);
      }
    }
    const float bias = weights[packed_bias<LAYER> + out];
    ARENA_UNROLL for (int x = 0; x < Out::size; ++x) sum[x] = elu(sum[x] + bias);
    store(sum, to + point * Out::floats + out * Out::map + y * Out::row);
  });
}

// Layer 4, without its bias and sigmoid: an item makes a row of the image from half of the maps. Lanes are rows. Rows
// beyond the edge are read as the nearest one with taps of zero: without a branch the loads run ahead.
template <int TILE, class Team>
ARENA_BODY void draw_last(const Team& team, const float* weights, const float* hidden, float* sums) {
  using In = Input<3>;
  constexpr int taps = 4, halves = 2;
  team.each(halves * TILE * kSide, [&](int i) {
    const int y = i % kSide, point = i / kSide % TILE, half = i / (kSide * TILE);
    float sum[kSide] = {};
    for (int map = half * (In::maps / halves); map < (half + 1) * (In::maps / halves); ++map)
      ARENA_UNROLL for (int ky = 0; ky < taps; ++ky) {
        const int inside = y < ky ? 0 : y - ky < In::size ? y - ky : In::size - 1;
        float tap[taps], row[In::row];
        load(weights + Packed::taps4 + map * Packed::last_map + ky * taps, tap);
        load(hidden + point * In::floats + map * In::map + inside * In::row, row);
        ARENA_UNROLL for (int kx = 0; kx < taps; ++kx) tap[kx] = inside == y - ky ? tap[kx] : 0.0f;
        ARENA_UNROLL for (int x = 0; x < In::size; ++x)
          ARENA_UNROLL for (int kx = 0; kx < taps; ++kx) sum[x + kx] = __builtin_fmaf(row[x], tap[kx], sum[x + kx]);
      }
    store(sum, sums + (half * TILE + point) * kPixels + y * kSide);
  });
}

// Layers 2 to 4 of a tile, from hidden1 (of `stride` floats a point) into at.sums.
template <int TILE, class Team>
ARENA_BODY void draw(const Team& team, const float* weights, const float* hidden1, int stride,
                     const Activations<TILE>& at) {
  draw_strided<1, TILE>(team, weights, hidden1, stride, at.hidden2);
  draw_strided<2, TILE>(team, weights, at.hidden2, Input<2>::floats, at.hidden3);
  draw_last<TILE>(team, weights, at.hidden3, at.sums);
}

// Pixel i of a tile that `draw` has drawn, i = point * kPixels + pixel.
template <int TILE>
ARENA_BODY float pixel(const float* weights, const Activations<TILE>& at, int i) {
  return sigmoid(at.sums[i] + at.sums[Activations<TILE>::half + i] + weights[Packed::bias4]);
}

}  // namespace arena::cuda
