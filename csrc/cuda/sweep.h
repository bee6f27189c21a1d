// Bodies of the sweeps: blocks of one class take tiles of points in turn, decode them (or fetch them from a bank) into
// shared memory and score them there against the whole batch. Each block keeps lists of its own; MergeBest joins them.
#pragma once

#include "forward.h"
#include "score.h"

namespace arena::cuda {

// z [points][kLatent] of a tile, the last point standing in for those beyond the end; returns how many are real.
template <int POINTS, class Team>
ARENA_BODY int fetch_points(const Team& team, const float* latents, std::int64_t first, std::int64_t points, float* z) {
  team.each(POINTS * kLatent, [&](int i) {
    z[i] = latents[smaller(first + i / kLatent, points - 1) * kLatent + i % kLatent];
  });
  return static_cast<int>(smaller(POINTS, points - first));
}

// TILE points go through layers 2 to 4 together, seven times a tile of the sweep.
template <int TILE>
struct Sweep {
  const float *packed, *latents, *columns;
  BestLists lists;
  std::int64_t points;

  using At = Activations<TILE>;
  static constexpr int tile = 7 * TILE, resident = Packed::size - Packed::taps2;
  static constexpr int shared = resident + At::size2 + At::size3 + tile * (kPixels + kLatent);
  // Activations of layers 2 and 3 are done with when their successors need the room.
  static_assert(At::sums_size <= At::size2 && kScoreScratch<tile> <= At::size2 + At::size3);

  template <class Team>
  ARENA_BODY void operator()(const Team& team, float* memory, Place place) const {
    const float* global = packed + static_cast<std::int64_t>(place.label) * Packed::size;
    const float* weights = memory - Packed::taps2;  // no layer 1: that is read where it is, once a tile
    const At at{memory + resident, memory + resident + At::size2, memory + resident};
    float *drawn = at.hidden3 + At::size3, *z = drawn + tile * kPixels;
    copy(team, global + Packed::taps2, memory, resident);
    clear(team, lists, place);
    const std::int64_t stride = static_cast<std::int64_t>(place.blocks) * tile;
    for (std::int64_t first = static_cast<std::int64_t>(place.block) * tile; first < points; first += stride) {
      const int count = fetch_points<tile>(team, latents, first, points, z);
      draw_first(team, global, z, tile, drawn, kPixels);  // a point's layer 1 waits where its image will be
      for (int i = 0; i < count; i += TILE) {
        float* images = drawn + i * kPixels;
        draw<TILE>(team, weights, images, kPixels, at);
        team.each(TILE * kPixels, [&](int j) { images[j] = pixel<TILE>(weights, at, j); });
      }
      score_tile<tile>(team, drawn, z, first, count, columns, lists, place, at.hidden2);
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

  template <class Team>
  ARENA_BODY void operator()(const Team& team, float* memory, Place place) const {
    float *drawn = memory, *z = drawn + tile * kPixels, *scratch = z + tile * kLatent;
    clear(team, lists, place);
    const std::int64_t stride = static_cast<std::int64_t>(place.blocks) * tile;
    for (std::int64_t first = static_cast<std::int64_t>(place.block) * tile; first < points; first += stride) {
      const int count = fetch_points<tile>(team, latents, first, points, z);
      copy(team, bank + (place.label * points + first) * kPixels, drawn, count * kPixels);
      score_tile<tile>(team, drawn, z, first, count, columns, lists, place, scratch);
    }
  }
};

}  // namespace arena::cuda
