// Bodies of `decode` and `decode_backward`: blocks of one class take tiles of TILE points in turn.
#pragma once

#include "../view.h"
#include "backward.h"

namespace arena::cuda {

// What `decode_backward` and the descent keep in shared memory, and their way through the decoder and back.
template <int TILE>
struct SharedWorkspace {
  static constexpr int hidden1_size = TILE * Input<1>::point, z_size = TILE * kLatent;
  static constexpr int floats = Packed::size + hidden1_size + Activations<TILE>::size2 + Activations<TILE>::size3 +
                                Activations<TILE>::sums_size + 2 * z_size;

  float *packed, *hidden1;
  Activations<TILE> at;
  float *z, *dz;

  ARENA_BODY explicit SharedWorkspace(float* shared)
      : packed(shared), hidden1(packed + Packed::size),
        at{hidden1 + hidden1_size, hidden1 + hidden1_size + at.size2, hidden1 + hidden1_size + at.size2 + at.size3},
        z(at.sums + at.sums_size), dz(z + z_size) {}

  template <class ThreadBlock>
  ARENA_BODY void decode(const ThreadBlock& block) const {
    decode_first(block, packed, z, TILE, hidden1, Input<1>::point);
    decode_tile<TILE>(block, packed, hidden1, Input<1>::point, at);
  }

  // From the gradient of the tile's pixels before the sigmoid, in at.sums, to dz.
  template <class ThreadBlock>
  ARENA_BODY void backward(const ThreadBlock& block) const {
    decode_tile_backward<TILE>(block, packed, hidden1, at, dz);
  }
};

// Weights [class][Packed::size]; the point of slot i of a tile that starts at `first`, the last one standing in for
// those beyond the end.
ARENA_BODY std::int64_t clamped(std::int64_t first, int i, std::int64_t count) { return smaller(first + i, count - 1); }

template <int TILE>
struct Decode {
  const float* packed;
  ClassRows<const float> z;
  ClassRows<float> image;
  std::int64_t points;

  static constexpr int shared = SharedWorkspace<TILE>::floats;

  template <class ThreadBlock>
  ARENA_BODY void operator()(const ThreadBlock& block, float* memory, BlockIndex id) const {
    const SharedWorkspace<TILE> workspace(memory);
    copy(block, packed + static_cast<std::int64_t>(id.label) * Packed::size, workspace.packed, Packed::size);
    const std::int64_t stride = static_cast<std::int64_t>(id.blocks) * TILE;
    for (std::int64_t first = static_cast<std::int64_t>(id.block) * TILE; first < points; first += stride) {
      block.each(TILE * kLatent,
                 [&](int i) { workspace.z[i] = z.at(id.label, clamped(first, i / kLatent, points))[i % kLatent]; });
      workspace.decode(block);
      block.each(TILE * kPixels, [&](int i) {
        const std::int64_t point = first + i / kPixels;
        if (point < points) image.at(id.label, point)[i % kPixels] = pixel<TILE>(workspace.packed, workspace.at, i);
      });
    }
  }
};

// z, dz [images][classes][kLatent], gradient [images][classes][kPixels].
template <int TILE>
struct DecodeBackward {
  const float *packed, *z, *gradient;
  float* dz;
  std::int64_t images, classes;

  static constexpr int shared = SharedWorkspace<TILE>::floats;

  template <class ThreadBlock>
  ARENA_BODY void operator()(const ThreadBlock& block, float* memory, BlockIndex id) const {
    const SharedWorkspace<TILE> workspace(memory);
    copy(block, packed + static_cast<std::int64_t>(id.label) * Packed::size, workspace.packed, Packed::size);
    const std::int64_t stride = static_cast<std::int64_t>(id.blocks) * TILE;
    for (std::int64_t first = static_cast<std::int64_t>(id.block) * TILE; first < images; first += stride) {
      block.each(TILE * kLatent, [&](int i) {
        const std::int64_t row = clamped(first, i / kLatent, images) * classes + id.label;
        workspace.z[i] = z[row * kLatent + i % kLatent];
      });
      workspace.decode(block);
      block.each(TILE * kPixels, [&](int i) {
        const std::int64_t row = clamped(first, i / kPixels, images) * classes + id.label;
        const float value = pixel<TILE>(workspace.packed, workspace.at, i);
        workspace.at.sums[i] = gradient[row * kPixels + i % kPixels] * value * (1.0f - value);
      });
      workspace.backward(block);
      block.each(TILE * kLatent, [&](int i) {
        const std::int64_t image = first + i / kLatent;
        if (image < images) dz[(image * classes + id.label) * kLatent + i % kLatent] = workspace.dz[i];
      });
    }
  }
};

}  // namespace arena::cuda
