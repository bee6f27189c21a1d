// Bodies of `decode` and `decode_back`: blocks of one class take tiles of TILE points in turn.
#pragma once

#include "../operators.h"
#include "backward.h"

namespace arena::cuda {

// What `decode_back` and the descent keep in shared memory, and their way through the decoder and back.
template <int TILE>
struct Workbench {
  static constexpr int hidden1_size = TILE * Input<1>::floats, z_size = TILE * kLatent;
  static constexpr int floats = Packed::size + hidden1_size + Activations<TILE>::size2 + Activations<TILE>::size3 +
                                Activations<TILE>::sums_size + 2 * z_size;

  float *weights, *hidden1;
  Activations<TILE> at;
  float *z, *dz;

  ARENA_BODY explicit Workbench(float* shared)
      : weights(shared), hidden1(weights + Packed::size),
        at{hidden1 + hidden1_size, hidden1 + hidden1_size + at.size2, hidden1 + hidden1_size + at.size2 + at.size3},
        z(at.sums + at.sums_size), dz(z + z_size) {}

  template <class Team>
  ARENA_BODY void draw(const Team& team) const {
    draw_first(team, weights, z, TILE, hidden1, Input<1>::floats);
    cuda::draw<TILE>(team, weights, hidden1, Input<1>::floats, at);
  }

  // From the gradient of the tile's pixels before the sigmoid, in at.sums, to dz.
  template <class Team>
  ARENA_BODY void back(const Team& team) const {
    cuda::back<TILE>(team, weights, hidden1, at, dz);
  }
};

// Weights [class][Packed::size]; the point of slot i of a tile that starts at `first`, the last one standing in for
// those beyond the end.
ARENA_BODY std::int64_t clamped(std::int64_t first, int i, std::int64_t count) { return smaller(first + i, count - 1); }

template <int TILE>
struct Decode {
  const float *packed, *z;
  float* image;
  std::int64_t points;
  Strides z_stride, image_stride;

  static constexpr int shared = Workbench<TILE>::floats;

  template <class Team>
  ARENA_BODY void operator()(const Team& team, float* memory, Place place) const {
    const Workbench<TILE> bench(memory);
    copy(team, packed + static_cast<std::int64_t>(place.label) * Packed::size, bench.weights, Packed::size);
    const std::int64_t stride = static_cast<std::int64_t>(place.blocks) * TILE;
    for (std::int64_t first = static_cast<std::int64_t>(place.block) * TILE; first < points; first += stride) {
      team.each(TILE * kLatent, [&](int i) {
        const std::int64_t point = clamped(first, i / kLatent, points);
        bench.z[i] = z[place.label * z_stride.of_class + point * z_stride.of_point + i % kLatent];
      });
      bench.draw(team);
      team.each(TILE * kPixels, [&](int i) {
        const std::int64_t point = first + i / kPixels;
        if (point < points)
          image[place.label * image_stride.of_class + point * image_stride.of_point + i % kPixels] =
              pixel<TILE>(bench.weights, bench.at, i);
      });
    }
  }
};

// z, dz [images][classes][kLatent], gradient [images][classes][kPixels].
template <int TILE>
struct DecodeBack {
  const float *packed, *z, *gradient;
  float* dz;
  std::int64_t images, classes;

  static constexpr int shared = Workbench<TILE>::floats;

  template <class Team>
  ARENA_BODY void operator()(const Team& team, float* memory, Place place) const {
    const Workbench<TILE> bench(memory);
    copy(team, packed + static_cast<std::int64_t>(place.label) * Packed::size, bench.weights, Packed::size);
    const std::int64_t stride = static_cast<std::int64_t>(place.blocks) * TILE;
    for (std::int64_t first = static_cast<std::int64_t>(place.block) * TILE; first < images; first += stride) {
      team.each(TILE * kLatent, [&](int i) {
        const std::int64_t row = clamped(first, i / kLatent, images) * classes + place.label;
        bench.z[i] = z[row * kLatent + i % kLatent];
      });
      bench.draw(team);
      team.each(TILE * kPixels, [&](int i) {
        const std::int64_t row = clamped(first, i / kPixels, images) * classes + place.label;
        const float value = pixel<TILE>(bench.weights, bench.at, i);
        bench.at.sums[i] = gradient[row * kPixels + i % kPixels] * value * (1.0f - value);
      });
      bench.back(team);
      team.each(TILE * kLatent, [&](int i) {
        const std::int64_t image = first + i / kLatent;
        if (image < images) dz[(image * classes + place.label) * kLatent + i % kLatent] = bench.dz[i];
      });
    }
  }
};

}  // namespace arena::cuda
