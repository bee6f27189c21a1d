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
  ARENA_UNROLL for (int x = 0; x < SIZE; ++x) row[x] = sum[x] * elu_slope(row[x]);
  store(row, at);
}

// Layer 4: gradient [point][pixel] before the sigmoid. An item makes a row of one map, lanes are maps.
template <int TILE, class Team>
ARENA_BODY void back_last(const Team& team, const float* weights, const float* gradient, float* hidden) {
  using In = Input<3>;
  constexpr int taps = 4;
  team.each(kMaps * TILE * In::size, [&](int i) {
    const int map = i % kMaps, point = i / kMaps % TILE, y = i / (kMaps * TILE);
    float sum[In::row] = {};
    for (int ky = 0; ky < taps; ++ky) {
      float tap[taps], row[kSide];
      load(weights + Packed::taps4 + map * Packed::last_map + ky * taps, tap);
      load(gradient + point * kPixels + (y + ky) * kSide, row);
      ARENA_UNROLL for (int x = 0; x < In::size; ++x)
        ARENA_UNROLL for (int kx = 0; kx < taps; ++kx) sum[x] = __builtin_fmaf(row[x + kx], tap[kx], sum[x]);
    }
    through_elu<In::size>(sum, hidden + point * In::floats + map * In::map + y * In::row);
  });
}

// Layer 3 or 2 (LAYER 2 or 1): `gradient` of its output -> that of its input, in place of the activations `hidden`. An
// item makes a row of one input map; lanes are input maps.
template <int LAYER, int TILE, class Team>
ARENA_BODY void back_strided(const Team& team, const float* weights, const float* gradient, float* hidden) {
  using In = Input<LAYER>;
  using Out = Input<LAYER + 1>;
  team.each(In::maps * TILE * In::size, [&](int i) {
    const int in = i % In::maps, point = i / In::maps % TILE, y = i / (In::maps * TILE);
    float sum[In::row] = {};
    for (int out = 0; out < kMaps; ++out)
      for (int ky = 0; ky < kTaps; ++ky) {
        const float* taps = weights + packed_taps<LAYER> + in * Packed::in_map + ky * kTaps * kMaps + out;
        float row[Out::row], tap[kTaps];
        load(gradient + point * Out::floats + out * Out::map + (kStride * y + ky) * Out::row, row);
        ARENA_UNROLL for (int kx = 0; kx < kTaps; ++kx) tap[kx] = taps[kx * kMaps];
        ARENA_UNROLL for (int x = 0; x < In::size; ++x)
          ARENA_UNROLL for (int kx = 0; kx < kTaps; ++kx)
            sum[x] = __builtin_fmaf(row[kStride * x + kx], tap[kx], sum[x]);
      }
    through_elu<In::size>(sum, hidden + point * In::floats + in * In::map + y * In::row);
  });
}

// Layer 1: `gradient` [point][Input<1>::floats] before its ELU -> dz [point][kLatent]. `scratch`: 32 floats for each.
template <int TILE, class Team>
ARENA_BODY void back_first(const Team& team, const float* weights, const float* gradient, float* scratch, float* dz) {
  constexpr int size = Input<1>::floats, parts = 32;
  team.each(TILE * kLatent * parts, [&](int i) {
    const int part = i % parts, latent = i / parts % kLatent, point = i / (parts * kLatent);
    float sum = 0.0f;
    for (int cell = part; cell < size; cell += parts)
      sum = __builtin_fmaf(weights[Packed::taps1 + latent * size + cell], gradient[point * size + cell], sum);
    scratch[i] = sum;
  });
  team.each(TILE * kLatent, [&](int i) {
    float sum = 0.0f;
    for (int part = 0; part < parts; ++part) sum += scratch[i * parts + part];
    dz[i] = sum;
  });
}

// From the gradient before the sigmoid, in the first half of at.sums, to dz [point][kLatent], after `draw`.
template <int TILE, class Team>
ARENA_BODY void back(const Team& team, const float* weights, float* hidden1, const Activations<TILE>& at, float* dz) {
  back_last<TILE>(team, weights, at.sums, at.hidden3);
  back_strided<2, TILE>(team, weights, at.hidden3, at.hidden2);
  back_strided<1, TILE>(team, weights, at.hidden2, hidden1);
  back_first<TILE>(team, weights, hidden1, at.sums, dz);
}

}  // namespace arena::cuda
