// The decoder, backward, for a tile of latent points: gradients take the place of the activations.
#pragma once

#include "forward.h"

namespace arena::cuda {

// The derivative of ELU, from its value.
ARENA_BODY float elu_slope(float y) { return y < 0.0f ? y + 1.0f : 1.0f; }

// The row of activations at `at` -> its gradient, `sum` being that of its ELU.
template <int SIZE, int COUNT>
ARENA_BODY void through_elu(const float (&sum)[COUNT], float* at) {
  float row[COUNT];
  load(at, row);
  ARENA_UNROLLED_FOR (int x = 0; x < SIZE; ++x) row[x] = sum[x] * elu_slope(row[x]);
  store(row, at);
}

// Layer 4: gradient [point][pixel] before the sigmoid. An item makes a row of one channel, lanes are channels.
template <int TILE, class ThreadBlock>
ARENA_BODY void last_backward(const ThreadBlock& block, const float* packed, const float* gradient, float* hidden) {
  using In = Input<3>;
  constexpr int kernel = 4;
  block.each(kChannels * TILE * In::size, [&](int i) {
    const int channel = i % kChannels, point = i / kChannels % TILE, y = i / (kChannels * TILE);
    float sum[In::row] = {};
    for (int ky = 0; ky < kernel; ++ky) {
      float weight[kernel], row[kSide];
      load(packed + Packed::weights4 + channel * Packed::last_channel + ky * kernel, weight);
      load(gradient + point * kPixels + (y + ky) * kSide, row);
      ARENA_UNROLLED_FOR (int x = 0; x < In::size; ++x)
        ARENA_UNROLLED_FOR (int kx = 0; kx < kernel; ++kx) sum[x] = __builtin_fmaf(row[x + kx], weight[kx], sum[x]);
    }
    through_elu<In::size>(sum, hidden + point * In::point + channel * In::channel + y * In::row);
  });
}

// Layer 3 or 2 (LAYER 2 or 1): `gradient` of its output -> that of its input, in place of the activations `hidden`. An
// item makes a row of one input channel; lanes are input channels.
template <int LAYER, int TILE, class ThreadBlock>
ARENA_BODY void strided_backward(const ThreadBlock& block, const float* packed, const float* gradient, float* hidden) {
  using In = Input<LAYER>;
  using Out = Input<LAYER + 1>;
  block.each(In::channels * TILE * In::size, [&](int i) {
    const int in = i % In::channels, point = i / In::channels % TILE, y = i / (In::channels * TILE);
    float sum[In::row] = {};
    for (int out = 0; out < kChannels; ++out)
      for (int ky = 0; ky < kKernel; ++ky) {
        const float* weights =
            packed + packed_weights<LAYER> + in * Packed::in_channel + ky * kKernel * kChannels + out;
        float row[Out::row], weight[kKernel];
        load(gradient + point * Out::point + out * Out::channel + (kStride * y + ky) * Out::row, row);
        ARENA_UNROLLED_FOR (int kx = 0; kx < kKernel; ++kx) weight[kx] = weights[kx * kChannels];
        ARENA_UNROLLED_FOR (int x = 0; x < In::size; ++x)
          ARENA_UNROLLED_FOR (int kx = 0; kx < kKernel; ++kx)
            sum[x] = __builtin_fmaf(row[kStride * x + kx], weight[kx], sum[x]);
      }
    through_elu<In::size>(sum, hidden + point * In::point + in * In::channel + y * In::row);
  });
}

// Layer 1: `gradient` [point][Input<1>::point] before its ELU -> dz [point][kLatent]. `scratch`: 32 floats for each.
template <int TILE, class ThreadBlock>
ARENA_BODY void first_backward(const ThreadBlock& block, const float* packed, const float* gradient, float* scratch,
                               float* dz) {
  constexpr int size = Input<1>::floats, parts = 32;
  block.each(TILE * kLatent * parts, [&](int i) {
    const int part = i % parts, latent = i / parts % kLatent, point = i / (parts * kLatent);
    float sum = 0.0f;
    for (int cell = part; cell < size; cell += parts)
      sum = __builtin_fmaf(packed[Packed::weights1 + latent * size + cell], gradient[point * Input<1>::point + cell],
                           sum);
    scratch[i] = sum;
  });
  block.each(TILE * kLatent, [&](int i) {
    float sum = 0.0f;
    for (int part = 0; part < parts; ++part) sum += scratch[i * parts + part];
    dz[i] = sum;
  });
}

// From the gradient before the sigmoid, in the first half of at.sums, to dz [point][kLatent], after `decode_tile`.
template <int TILE, class ThreadBlock>
ARENA_BODY void decode_tile_backward(const ThreadBlock& block, const float* packed, float* hidden1,
                                     const Activations<TILE>& at, float* dz) {
  last_backward<TILE>(block, packed, at.sums, at.hidden3);
  strided_backward<2, TILE>(block, packed, at.hidden3, at.hidden2);
  strided_backward<1, TILE>(block, packed, at.hidden2, hidden1);
  first_backward<TILE>(block, packed, hidden1, at.sums, dz);
}

}  // namespace arena::cuda
