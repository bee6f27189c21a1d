// Body of the descent: a block takes TILE images of one class at a time through all steps. Weights, activations and
// images stay in shared memory: inside the loop no global memory is touched.
#pragma once

#include "decode.h"
#include "score.h"

namespace arena::cuda {

template <int TILE>
struct Descend {
  const float *packed, *z0, *x;
  float *score, *z, *reconstruction;  // reconstruction may be null
  std::int64_t images, classes;
  int steps;
  float step_size, radius;

  static constexpr int adam_floats = sizeof(Adam) / sizeof(float);
  static constexpr int shared = Workbench<TILE>::floats + TILE * (kPixels + adam_floats);

  template <class Team>
  ARENA_BODY void operator()(const Team& team, float* memory, Place place) const {
    const Workbench<TILE> bench(memory);
    float* targets = memory + Workbench<TILE>::floats;
    Adam* adam = reinterpret_cast<Adam*>(targets + TILE * kPixels);
    copy(team, packed + static_cast<std::int64_t>(place.label) * Packed::size, bench.weights, Packed::size);
    const std::int64_t stride = static_cast<std::int64_t>(place.blocks) * TILE;
    for (std::int64_t first = static_cast<std::int64_t>(place.block) * TILE; first < images; first += stride) {
      start(team, bench, targets, adam, first, place.label);
      for (int step = 1;; ++step) {
        bench.draw(team);
        if (step == steps) break;
        compare(team, bench, targets);
        bench.back(team);
        team.each(TILE, [&](int i) {
          float *point = bench.z + i * kLatent, *gradient = bench.dz + i * kLatent;
          ARENA_UNROLL for (int j = 0; j < kLatent; ++j) gradient[j] += point[j];
          adam[i].step(point, gradient, step_size, radius);
        });
      }
      finish(team, bench, targets, first, place.label);
    }
  }

 private:
  template <class Team>
  ARENA_BODY void start(const Team& team, const Workbench<TILE>& bench, float* targets, Adam* adam,
                        std::int64_t first, std::int64_t label) const {
    team.each(TILE, [&](int i) { adam[i] = Adam{}; });
    team.each(TILE * kLatent, [&](int i) {
      bench.z[i] = z0[(clamped(first, i / kLatent, images) * classes + label) * kLatent + i % kLatent];
    });
    team.each(TILE * kPixels, [&](int i) {
      targets[i] = x[clamped(first, i / kPixels, images) * kPixels + i % kPixels];
    });
  }

  // at.sums: pixels before the sigmoid -> gradient of the squared distance with respect to them.
  template <class Team>
  ARENA_BODY void compare(const Team& team, const Workbench<TILE>& bench, const float* targets) const {
    team.each(TILE * kPixels, [&](int i) {
      const float value = pixel<TILE>(bench.weights, bench.at, i);
      bench.at.sums[i] = 2.0f * (value - targets[i]) * value * (1.0f - value);
    });
  }

  // Scores, summed as `score_tile` sums them; points and images to global memory.
  template <class Team>
  ARENA_BODY void finish(const Team& team, const Workbench<TILE>& bench, const float* targets, std::int64_t first,
                         std::int64_t label) const {
    float *differences = bench.at.sums, *rows = differences + TILE * kPixels;
    team.each(TILE * kPixels, [&](int i) {
      const float value = pixel<TILE>(bench.weights, bench.at, i);
      const std::int64_t image = first + i / kPixels;
      differences[i] = targets[i] - value;
      if (reconstruction && image < images)
        reconstruction[(image * classes + label) * kPixels + i % kPixels] = value;
    });
    team.each(TILE * kSide, [&](int i) {
      float sum = 0.0f;
      for (int j = 0; j < kSide; ++j)
        sum = __builtin_fmaf(differences[i * kSide + j], differences[i * kSide + j], sum);
      rows[i] = sum;
    });
    team.each(static_cast<int>(smaller(TILE, images - first)), [&](int i) {
      const std::int64_t pair = (first + i) * classes + label;
      float total = rows[i * kSide];
      for (int row = 1; row < kSide; ++row) total += rows[i * kSide + row];
      score[pair] = total + prior(bench.z + i * kLatent);
      ARENA_UNROLL for (int j = 0; j < kLatent; ++j) z[pair * kLatent + j] = bench.z[i * kLatent + j];
    });
  }
};

}  // namespace arena::cuda
