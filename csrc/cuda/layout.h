// Weights and activations as the CUDA kernels keep them in shared memory.
#pragma once

#include "team.h"

namespace arena::cuda {

constexpr int padded(int count) { return (count + 3) / 4 * 4; }

// The input of layer LAYER (from 0) for one point: [map][row][column], rows padded to whole quads. An odd number of
// quads a map (and a row, where lanes are rows) keeps the lanes of a warp on different banks.
template <int LAYER>
struct Input {
  static constexpr int maps = kLayers[LAYER].maps_in, size = kLayers[LAYER].size_in, row = padded(size);
  static constexpr int map = size * row, floats = maps * map;
};

constexpr int kMaps = 16;  // that layers 2 and 3 make
constexpr int kTaps = 5, kStride = 2;
static_assert(Input<2>::maps == kMaps && Input<3>::maps == kMaps && Input<1>::size == 4 && Input<1>::map % 4 == 0);
static_assert(kLayers[1].kernel == kTaps && kLayers[2].kernel == kTaps && kLayers[3].kernel == 4);

// Offsets in floats of one class's weights. Layer 1: taps as folded, [latent][map][pixel]. Layers 2 and 3:
// [in][ky][kx][out] with a float of padding for each input map, so that lanes may be output maps (forward) or input
// maps (backward). Layer 4: [in][ky][kx] in 20 floats a map. Biases follow their taps. A sweep keeps all from `taps2`
// on in shared memory, a descent everything.
struct Packed {
  static constexpr int in_map = kTaps * kTaps * kMaps + 1, last_map = 20;
  static constexpr int taps1 = 0, bias1 = taps1 + kLayers[0].taps();
  static constexpr int taps2 = bias1 + kLayers[0].maps_out, bias2 = taps2 + Input<1>::maps * in_map;
  static constexpr int taps3 = bias2 + kMaps, bias3 = taps3 + Input<2>::maps * in_map;
  static constexpr int taps4 = bias3 + kMaps, bias4 = taps4 + Input<3>::maps * last_map;
  static constexpr int size = bias4 + 4;
  static_assert(taps2 % 4 == 0 && taps4 % 4 == 0 && size % 4 == 0);
};

template <int LAYER>
constexpr int packed_taps = LAYER == 1 ? Packed::taps2 : Packed::taps3;
template <int LAYER>
constexpr int packed_bias = LAYER == 1 ? Packed::bias2 : Packed::bias3;

// folded [kFoldedSize] (geometry.h) -> packed [Packed::size], on the host.
inline void pack(const float* folded, float* packed) {
  for (int i = 0; i < Packed::size; ++i) packed[i] = 0.0f;
  for (int i = 0; i < Packed::taps2; ++i) packed[i] = folded[i];
  for (int layer = 1; layer <= 2; ++layer) {
    const float* taps = folded + taps_offset(layer);
    float* to = packed + (layer == 1 ? Packed::taps2 : Packed::taps3);
    for (int in = 0; in < kLayers[layer].maps_in; ++in)
      for (int out = 0; out < kMaps; ++out)
        for (int tap = 0; tap < kTaps * kTaps; ++tap)
          to[in * Packed::in_map + tap * kMaps + out] = taps[(in * kMaps + out) * kTaps * kTaps + tap];
    for (int out = 0; out < kMaps; ++out)
      packed[(layer == 1 ? Packed::bias2 : Packed::bias3) + out] = folded[bias_offset(layer) + out];
  }
  for (int in = 0; in < Input<3>::maps; ++in)
    for (int tap = 0; tap < 16; ++tap)
      packed[Packed::taps4 + in * Packed::last_map + tap] = folded[taps_offset(3) + in * 16 + tap];
  packed[Packed::bias4] = folded[bias_offset(3)];
}

// What a tile of TILE points goes through. Two halves of the maps of layer 4 make a sum each, [half][point][pixel].
template <int TILE>
struct Activations {
  static constexpr int size2 = TILE * Input<2>::floats, size3 = TILE * Input<3>::floats;
  static constexpr int half = TILE * kPixels, sums_size = 2 * half;
  float *hidden2, *hidden3, *sums;
};

// The order in which warps take the rows that layer 2 (11) or 3 (25) makes, as letters: A is row 0. Rows have one to
// three rows of taps; in this order the four schedulers, item i going to scheduler i % 4, get 5, 5, 5, 5 or 14, 14, 14,
// 13 of them.
template <int ROWS>
ARENA_BODY int row_in_order(int i) {
  static_assert(ROWS == 11 || ROWS == 25);
  return (ROWS == 11 ? "ECFGADHIBJK" : "CEGIKMOQSDFUAHJLNPRBTVWXY")[i] - 'A';
}

}  // namespace arena::cuda
