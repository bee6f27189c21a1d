// Weights and activations as the CUDA kernels keep them in shared memory.
#pragma once

#include "thread_block.h"

namespace arena::cuda {

constexpr int padded(int count) { return (count + 3) / 4 * 4; }

// The input of layer LAYER (from 0) for one point: [channel][row][column], rows padded to whole quads. An odd number of
// quads keeps the lanes of a warp on different banks: in a channel where lanes are channels, in a row where they are
// rows, and from one point of a tile to the next, to which four floats of padding belong.
template <int LAYER>
struct Input {
  static constexpr int channels = kLayers[LAYER].channels_in, size = kLayers[LAYER].size_in, row = padded(size);
  static constexpr int channel = size * row, floats = channels * channel, point = floats + 4;
  static_assert(point / 4 % 2 == 1);
};

constexpr int kChannels = 16;  // that layers 2 and 3 make
constexpr int kKernel = 5, kStride = 2;
static_assert(Input<2>::channels == kChannels && Input<3>::channels == kChannels && Input<1>::size == 4 &&
              Input<1>::channel % 4 == 0);
static_assert(Input<2>::channel / 4 % 2 == 1 && Input<3>::channel / 4 % 2 == 1 && Input<3>::row / 4 % 2 == 1);
static_assert(kLayers[1].kernel == kKernel && kLayers[2].kernel == kKernel && kLayers[3].kernel == 4);

// Offsets in floats of one class's weights. Layer 1: weights as folded, [latent][channel][pixel]. Layers 2 and 3:
// [in][ky][kx][out] with a float of padding for each input channel, so that lanes may be output channels (forward) or
// input channels (backward). Layer 4: [in][ky][kx] in 20 floats a channel. Biases follow their weights. A sweep keeps
// all from `weights2` on in shared memory, a descent everything.
struct Packed {
  static constexpr int in_channel = kKernel * kKernel * kChannels + 1, last_channel = 20;
  static constexpr int weights1 = 0, bias1 = weights1 + kLayers[0].weights();
  static constexpr int weights2 = bias1 + kLayers[0].channels_out, bias2 = weights2 + Input<1>::channels * in_channel;
  static constexpr int weights3 = bias2 + kChannels, bias3 = weights3 + Input<2>::channels * in_channel;
  static constexpr int weights4 = bias3 + kChannels, bias4 = weights4 + Input<3>::channels * last_channel;
  static constexpr int size = bias4 + 4;
  static_assert(weights2 % 4 == 0 && weights4 % 4 == 0 && size % 4 == 0);
};

template <int LAYER>
constexpr int packed_weights = LAYER == 1 ? Packed::weights2 : Packed::weights3;
template <int LAYER>
constexpr int packed_bias = LAYER == 1 ? Packed::bias2 : Packed::bias3;

// folded [kFoldedSize] (geometry.h) -> packed [Packed::size], on the host.
inline void pack(const float* folded, float* packed) {
  for (int i = 0; i < Packed::size; ++i) packed[i] = 0.0f;
  for (int i = 0; i < Packed::weights2; ++i) packed[i] = folded[i];
  for (int layer = 1; layer <= 2; ++layer) {
    const float* weights = folded + weights_offset(layer);
    float* to = packed + (layer == 1 ? Packed::weights2 : Packed::weights3);
    for (int in = 0; in < kLayers[layer].channels_in; ++in)
      for (int out = 0; out < kChannels; ++out)
        for (int i = 0; i < kKernel * kKernel; ++i)
          to[in * Packed::in_channel + i * kChannels + out] = weights[(in * kChannels + out) * kKernel * kKernel + i];
    for (int out = 0; out < kChannels; ++out)
      packed[(layer == 1 ? Packed::bias2 : Packed::bias3) + out] = folded[bias_offset(layer) + out];
  }
  for (int in = 0; in < Input<3>::channels; ++in)
    for (int i = 0; i < 16; ++i)
      packed[Packed::weights4 + in * Packed::last_channel + i] = folded[weights_offset(3) + in * 16 + i];
  packed[Packed::bias4] = folded[bias_offset(3)];
}

// What a tile of TILE points goes through. Two halves of the channels of layer 4 make a sum each, [half][point][pixel].
template <int TILE>
struct Activations {
  static constexpr int size2 = TILE * Input<2>::point, size3 = TILE * Input<3>::point;
  static constexpr int half = TILE * kPixels, sums_size = 2 * half;
  float *hidden2, *hidden3, *sums;
};

// The order in which warps take the rows that layer 2 (11) or 3 (25) makes, as letters: A is row 0. Rows have one to
// three rows of weights; in this order the four schedulers, item i going to scheduler i % 4, get 5, 5, 5, 5 or 14, 14,
// 14, 13 of them.
template <int ROWS>
ARENA_BODY int row_in_order(int i) {
  static_assert(ROWS == 11 || ROWS == 25);
  return (ROWS == 11 ? "ECFGADHIBJK" : "CEGIKMOQSDFUAHJLNPRBTVWXY")[i] - 'A';
}

}  // namespace arena::cuda
