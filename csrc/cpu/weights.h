// The CPU's layout of one class's weights, the same for every instruction set.
#pragma once

#include "../geometry.h"
#include "strided.h"

namespace arena::ARENA_ISA {

constexpr int kMaps1 = kLayers[1].maps_in, kMaps2 = kLayers[2].maps_in, kMaps3 = kLayers[3].maps_in;
constexpr int kSize1 = kLayers[1].size_in, kSize2 = kLayers[2].size_in, kSize3 = kLayers[3].size_in;
static_assert(kMaps2 == 16 && kMaps3 == 16, "layers 2 to 4 put 16 maps side by side");

// Layer 2 takes a group of points side by side (each row of 4 columns is one tile), layer 3 one point of 3 tiles.
template <int GROUP>
using Second = Strided<kMaps1, kMaps2, kSize1, GROUP, 0>;
using Third = Strided<kMaps2, kMaps3, kSize2, 3, 1>;

// Offsets in floats. Taps of layer 1: [y][x][latent][map]; of layers 2 and 3: see Strided; of layer 4: [ky][kx][map].
struct Packed {
  static constexpr int taps1 = 0, bias1 = taps1 + kLayers[0].taps();
  static constexpr int taps2 = bias1 + kMaps1, bias2 = taps2 + Second<1>::taps_size;
  static constexpr int taps3 = bias2 + kMaps2, bias3 = taps3 + Third::taps_size;
  static constexpr int taps4 = bias3 + kMaps3, bias4 = taps4 + kLayers[3].taps();
  static constexpr int back2 = bias4 + 16, back3 = back2 + Second<1>::taps_size;
  static constexpr int size = back3 + Third::taps_size;
};

// [in][out][5][5] -> [point][ky][in][parity][out], or with in and out exchanged for the way back.
inline void pack_strided(const Layer& layer, const float* folded, float* ahead, float* back) {
  const int in_maps = layer.maps_in, out_maps = layer.maps_out;
  for (int point = 0; point < kPoints; ++point)
    for (int ky = 0; ky < 5; ++ky)
      for (int in = 0; in < in_maps; ++in)
        for (int out = 0; out < out_maps; ++out)
          for (int parity = 0; parity < 2; ++parity) {
            const float* row = folded + ((in * out_maps + out) * 5 + ky) * 5;
            const double taps[3] = {row[parity], row[parity + 2], parity ? 0.0 : row[4]};
            const float value = static_cast<float>(tap_value(taps, 3 - parity, point));
            const int plane = point * 5 + ky;
            ahead[((plane * in_maps + in) * 2 + parity) * out_maps + out] = value;
            back[((plane * out_maps + out) * 2 + parity) * in_maps + in] = value;
          }
}

// folded [kFoldedSize] (geometry.h) -> packed [Packed::size].
inline void pack(const float* folded, float* packed) {
  for (int latent = 0; latent < kLatent; ++latent)
    for (int map = 0; map < kMaps1; ++map)
      for (int pixel = 0; pixel < 16; ++pixel)
        packed[Packed::taps1 + (pixel * kLatent + latent) * kMaps1 + map] =
            folded[taps_offset(0) + (latent * kMaps1 + map) * 16 + pixel];
  pack_strided(kLayers[1], folded + taps_offset(1), packed + Packed::taps2, packed + Packed::back2);
  pack_strided(kLayers[2], folded + taps_offset(2), packed + Packed::taps3, packed + Packed::back3);
  for (int map = 0; map < kMaps3; ++map)
    for (int tap = 0; tap < 16; ++tap)
      packed[Packed::taps4 + tap * kMaps3 + map] = folded[taps_offset(3) + map * 16 + tap];
  const int biases[4] = {Packed::bias1, Packed::bias2, Packed::bias3, Packed::bias4};
  for (int layer = 0; layer < 4; ++layer)
    for (int map = 0; map < kLayers[layer].maps_out; ++map)
      packed[biases[layer] + map] = folded[bias_offset(layer) + map];
}

}  // namespace arena::ARENA_ISA
