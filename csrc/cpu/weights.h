// The CPU's layout of one class's weights, the same for every instruction set.
#pragma once

#include "../geometry.h"
#include "strided.h"

namespace arena::ARENA_ISA {

constexpr int kChannels1 = kLayers[1].channels_in, kChannels2 = kLayers[2].channels_in,
              kChannels3 = kLayers[3].channels_in;
constexpr int kSize1 = kLayers[1].size_in, kSize2 = kLayers[2].size_in, kSize3 = kLayers[3].size_in;
static_assert(kChannels2 == 16 && kChannels3 == 16, "layers 2 to 4 put 16 channels side by side");

// Layer 2 takes a group of points side by side (each row of 4 columns is one tile), layer 3 one point of 3 tiles.
template <int GROUP>
using Second = Strided<kChannels1, kChannels2, kSize1, GROUP, 0>;
using Third = Strided<kChannels2, kChannels3, kSize2, 3, 1>;

// Offsets in floats. Weights of layer 1: [y][x][latent][channel]; of layers 2 and 3: see Strided; of layer 4:
// [ky][kx][channel].
struct Packed {
  static constexpr int weights1 = 0, bias1 = weights1 + kLayers[0].weights();
  static constexpr int weights2 = bias1 + kChannels1, bias2 = weights2 + Second<1>::weights_size;
  static constexpr int weights3 = bias2 + kChannels2, bias3 = weights3 + Third::weights_size;
  static constexpr int weights4 = bias3 + kChannels3, bias4 = weights4 + kLayers[3].weights();
  static constexpr int backward2 = bias4 + 16, backward3 = backward2 + Second<1>::weights_size;
  static constexpr int size = backward3 + Third::weights_size;
};

// [in][out][5][5] -> [point][ky][in][parity][out], or with in and out exchanged for the way backward.
inline void pack_strided(const LayerShape& layer, const float* folded, float* forward, float* backward) {
  const int in_channels = layer.channels_in, out_channels = layer.channels_out;
  for (int point = 0; point < kPoints; ++point)
    for (int ky = 0; ky < 5; ++ky)
      for (int in = 0; in < in_channels; ++in)
        for (int out = 0; out < out_channels; ++out)
          for (int parity = 0; parity < 2; ++parity) {
            const float* row = folded + ((in * out_channels + out) * 5 + ky) * 5;
            const double weights[3] = {row[parity], row[parity + 2], parity ? 0.0 : row[4]};
            const float value = static_cast<float>(weight_value(weights, 3 - parity, point));
            const int plane = point * 5 + ky;
            forward[((plane * in_channels + in) * 2 + parity) * out_channels + out] = value;
            backward[((plane * out_channels + out) * 2 + parity) * in_channels + in] = value;
          }
}

// folded [kFoldedSize] (geometry.h) -> packed [Packed::size].
inline void pack(const float* folded, float* packed) {
  for (int latent = 0; latent < kLatent; ++latent)
    for (int channel = 0; channel < kChannels1; ++channel)
      for (int pixel = 0; pixel < 16; ++pixel)
        packed[Packed::weights1 + (pixel * kLatent + latent) * kChannels1 + channel] =
            folded[weights_offset(0) + (latent * kChannels1 + channel) * 16 + pixel];
  pack_strided(kLayers[1], folded + weights_offset(1), packed + Packed::weights2, packed + Packed::backward2);
  pack_strided(kLayers[2], folded + weights_offset(2), packed + Packed::weights3, packed + Packed::backward3);
  for (int channel = 0; channel < kChannels3; ++channel)
    for (int i = 0; i < 16; ++i)
      packed[Packed::weights4 + i * kChannels3 + channel] = folded[weights_offset(3) + channel * 16 + i];
  const int biases[4] = {Packed::bias1, Packed::bias2, Packed::bias3, Packed::bias4};
  for (int layer = 0; layer < 4; ++layer)
    for (int channel = 0; channel < kLayers[layer].channels_out; ++channel)
      packed[biases[layer] + channel] = folded[bias_offset(layer) + channel];
}

}  // namespace arena::ARENA_ISA
