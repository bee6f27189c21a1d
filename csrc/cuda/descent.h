// Body of the descent: a block takes TILE images of one class at a time through all steps. Weights, activations and
// images stay in shared memory: inside the loop no global memory is touched.
#pragma once

#include "decode.h"
#include "score.h"

namespace arena::cuda {

template <int TILE>
struct LatentDescent {
  const float *packed, *z0, *x;
  float *score, *z, *reconstruction;  // reconstruction may be null
  std::int64_t images, classes;
  Descent settings;

  static constexpr int adam_floats = sizeof(Adam) / sizeof(float);
  static constexpr int shared = SharedWorkspace<TILE>::floats + TILE * (kPixels + adam_floats);

  template <class ThreadBlock>
  ARENA_BODY void operator()(const ThreadBlock& block, float* memory, BlockIndex id) const {
    const SharedWorkspace<TILE> workspace(memory);
    float* targets = memory + SharedWorkspace<TILE>::floats;
    Adam* adam = reinterpret_cast<Adam*>(targets + TILE * kPixels);
    copy(block, packed + static_cast<std::int64_t>(id.label) * Packed::size, workspace.packed, Packed::size);
    const std::int64_t stride = static_cast<std::int64_t>(id.blocks) * TILE;
    for (std::int64_t first = static_cast<std::int64_t>(id.block) * TILE; first < images; first += stride) {
      start(block, workspace, targets, adam, first, id.label);
      for (int step = 1;; ++step) {
        workspace.decode(block);
        if (step == settings.steps) break;
        compare(block, workspace, targets);
        workspace.backward(block);
        block.each(TILE, [&](int i) {
          float *point = workspace.z + i * kLatent, *gradient = workspace.dz + i * kLatent;
          ARENA_UNROLLED_FOR (int j = 0; j < kLatent; ++j) gradient[j] += point[j];
          adam[i].step(point, gradient, settings.step_size, settings.radius);
        });
      }
      finish(block, workspace, targets, first, id.label);
    }
  }

 private:
  template <class ThreadBlock>
  ARENA_BODY void start(const ThreadBlock& block, const SharedWorkspace<TILE>& workspace, float* targets, Adam* adam,
                        std::int64_t first, std::int64_t label) const {
    block.each(TILE, [&](int i) { adam[i] = Adam{}; });
    block.each(TILE * kLatent, [&](int i) {
      workspace.z[i] = z0[(clamped(first, i / kLatent, images) * classes + label) * kLatent + i % kLatent];
    });
    block.each(TILE * kPixels,
               [&](int i) { targets[i] = x[clamped(first, i / kPixels, images) * kPixels + i % kPixels]; });
  }

  // at.sums: pixels before the sigmoid -> gradient of the squared distance with respect to them.
  template <class ThreadBlock>
  ARENA_BODY void compare(const ThreadBlock& block, const SharedWorkspace<TILE>& workspace,
                          const float* targets) const {
    block.each(TILE * kPixels, [&](int i) {
      const float value = pixel<TILE>(workspace.packed, workspace.at, i);
      workspace.at.sums[i] = 2.0f * (value - targets[i]) * value * (1.0f - value);
    });
  }

  // Scores, summed as `score_tile` sums them; points and images to global memory.
  template <class ThreadBlock>
  ARENA_BODY void finish(const ThreadBlock& block, const SharedWorkspace<TILE>& workspace, const float* targets,
                         std::int64_t first, std::int64_t label) const {
    float *differences = workspace.at.sums, *rows = differences + TILE * kPixels;
    block.each(TILE * kPixels, [&](int i) {
      const float value = pixel<TILE>(workspace.packed, workspace.at, i);
      const std::int64_t image = first + i / kPixels;
      differences[i] = targets[i] - value;
      if (reconstruction && image < images) reconstruction[(image * classes + label) * kPixels + i % kPixels] = value;
    });
    block.each(TILE * kSide, [&](int i) {
      float sum = 0.0f;
      for (int j = 0; j < kSide; ++j) sum = __builtin_fmaf(differences[i * kSide + j], differences[i * kSide + j], sum);
      rows[i] = sum;
    });
    block.each(static_cast<int>(smaller(TILE, images - first)), [&](int i) {
      const std::int64_t pair = (first + i) * classes + label;
      float total = rows[i * kSide];
      for (int row = 1; row < kSide; ++row) total += rows[i * kSide + row];
      score[pair] = total + prior(workspace.z + i * kLatent);
      ARENA_UNROLLED_FOR (int j = 0; j < kLatent; ++j) z[pair * kLatent + j] = workspace.z[i * kLatent + j];
    });
  }
};

}  // namespace arena::cuda
