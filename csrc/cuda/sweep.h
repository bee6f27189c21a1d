// Bodies of the sweeps: blocks of one class take tiles of points in turn, decode them (or fetch them from a bank) into
// shared memory and score them there against the whole batch. Each block keeps lists of its own; MergeBest joins them.
#pragma once

#include "forward.h"
#include "score.h"

namespace arena::cuda {

// z [points][kLatent] of a tile, the last point standing in for those beyond the end; returns how many are real.
template <int POINTS, class ThreadBlock>
ARENA_BODY int fetch_points(const ThreadBlock& block, const float* latents, std::int64_t first, std::int64_t points,
                            float* z) {
  block.each(POINTS * kLatent,
             [&](int i) { z[i] = latents[smaller(first + i / kLatent, points - 1) * kLatent + i % kLatent]; });
  return static_cast<int>(smaller(POINTS, points - first));
}

// TILE points go through layers 2 to 4 together, seven times a tile of the sweep.
template <int TILE>
struct LatentSweep {
  const float *packed, *latents, *columns;
  BestLists lists;
  std::int64_t points;

  using At = Activations<TILE>;
  static constexpr int tile = 7 * TILE, resident = Packed::size - Packed::weights2;
  static constexpr int shared = resident + At::size2 + At::size3 + tile * (kPixels + kLatent);
  // Activations of layers 2 and 3 are done with when their successors need the room.
  static_assert(At::sums_size <= At::size2 && kScoreScratch<tile> <= At::size2 + At::size3);

  template <class ThreadBlock>
  ARENA_BODY void operator()(const ThreadBlock& block, float* memory, BlockIndex id) const {
    const float* global = packed + static_cast<std::int64_t>(id.label) * Packed::size;
    const float* cached = memory - Packed::weights2;  // no layer 1: that is read where it is, once a tile
    const At at{memory + resident, memory + resident + At::size2, memory + resident};
    float *decoded = at.hidden3 + At::size3, *z = decoded + tile * kPixels;
    copy(block, global + Packed::weights2, memory, resident);
    clear(block, lists, id);
    const std::int64_t stride = static_cast<std::int64_t>(id.blocks) * tile;
    for (std::int64_t first = static_cast<std::int64_t>(id.block) * tile; first < points; first += stride) {
      const int count = fetch_points<tile>(block, latents, first, points, z);
      decode_first(block, global, z, tile, decoded, kPixels);  // a point's layer 1 waits where its image will be
      for (int i = 0; i < count; i += TILE) {
        float* images = decoded + i * kPixels;
        decode_tile<TILE>(block, cached, images, kPixels, at);
        block.each(TILE * kPixels, [&](int j) { images[j] = pixel<TILE>(cached, at, j); });
      }
      score_tile<tile>(block, decoded, z, first, count, columns, lists, id, at.hidden2);
    }
  }
};

// bank [classes][points][kPixels].
struct BankSweep {
  const float *bank, *latents, *columns;
  BestLists lists;
  std::int64_t points;

  static constexpr int tile = 14;
  static constexpr int shared = tile * (kPixels + kLatent) + kScoreScratch<tile>;

  template <class ThreadBlock>
  ARENA_BODY void operator()(const ThreadBlock& block, float* memory, BlockIndex id) const {
    float *decoded = memory, *z = decoded + tile * kPixels, *scratch = z + tile * kLatent;
    clear(block, lists, id);
    const std::int64_t stride = static_cast<std::int64_t>(id.blocks) * tile;
    for (std::int64_t first = static_cast<std::int64_t>(id.block) * tile; first < points; first += stride) {
      const int count = fetch_points<tile>(block, latents, first, points, z);
      copy(block, bank + (id.label * points + first) * kPixels, decoded, count * kPixels);
      score_tile<tile>(block, decoded, z, first, count, columns, lists, id, scratch);
    }
  }
};

}  // namespace arena::cuda
