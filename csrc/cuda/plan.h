// The operators as launches: which body over how many blocks. A Runner is a GPU (launch.h) or its stand-in on the host
// (host.cpp): it knows how many blocks run side by side, whether two points fit into a block, and how to run a body.
#pragma once

#include "descent.h"
#include "sweep.h"

namespace arena::cuda {

inline int runs(std::int64_t count, int run, std::int64_t most) {
  const std::int64_t wanted = (count + run - 1) / run;
  return static_cast<int>(wanted < most ? wanted : most);
}

// Blocks that share the work of one class. A block fills a multiprocessor, so all of them run at once.
inline int blocks_a_class(int processors, std::int64_t classes, std::int64_t count, int tile) {
  const std::int64_t share = classes < processors ? processors / classes : 1;
  return runs(count, tile, share);
}

// How many lists of the best points a sweep keeps for each class and image: the room that `keys` must have, in keys,
// is this times images, classes and k.
inline int sweep_lists_of(int processors, std::int64_t classes, std::int64_t points) {
  return blocks_a_class(processors, classes, points, BankSweep::tile);
}

// f(std::integral_constant<int, TILE>).
template <class Runner, class F>
void with_tile(const Runner& run, F&& f) {
  if (run.two_points)
    f(std::integral_constant<int, 2>{});
  else
    f(std::integral_constant<int, 1>{});
}

template <class Runner>
void plan_decode(const Runner& run, const float* packed, const float* z, float* image, std::int64_t classes,
                 std::int64_t points, Strides z_stride, Strides image_stride) {
  with_tile(run, [&](auto tile) {
    run(Decode<tile>{packed, z, image, points, z_stride, image_stride},
        blocks_a_class(run.processors, classes, points, tile), classes);
  });
}

template <class Runner>
void plan_decode_back(const Runner& run, const float* packed, const float* z, const float* gradient, float* dz,
                      const Sizes& n) {
  with_tile(run, [&](auto tile) {
    run(DecodeBack<tile>{packed, z, gradient, dz, n.images, n.classes},
        blocks_a_class(run.processors, n.classes, n.images, tile), n.classes);
  });
}

template <class Runner>
void plan_merge(const Runner& run, const BestLists& lists, int blocks, float* score, std::int64_t* index) {
  run(MergeBest{lists, blocks, score, index}, runs(lists.images, kThreads, lists.images), lists.classes);
}

template <class Runner>
void plan_sweep(const Runner& run, const float* packed, const float* latents, const float* columns, Key* keys,
                float* score, std::int64_t* index, const Sizes& n, int k) {
  if (n.images == 0) return;
  const BestLists lists{keys, n.images, n.classes, k};
  const int blocks = sweep_lists_of(run.processors, n.classes, n.points);
  with_tile(run, [&](auto tile) {
    run(Sweep<tile>{packed, latents, columns, lists, n.points}, blocks, n.classes);
  });
  plan_merge(run, lists, blocks, score, index);
}

template <class Runner>
void plan_score_bank(const Runner& run, const float* bank, const float* latents, const float* columns, Key* keys,
                     float* score, std::int64_t* index, const Sizes& n, int k) {
  if (n.images == 0) return;
  const BestLists lists{keys, n.images, n.classes, k};
  const int blocks = sweep_lists_of(run.processors, n.classes, n.points);
  run(BankSweep{bank, latents, columns, lists, n.points}, blocks, n.classes);
  plan_merge(run, lists, blocks, score, index);
}

template <class Runner>
void plan_descend(const Runner& run, const float* packed, const float* z0, const float* x, float* score, float* z,
                  float* reconstruction, const Sizes& n, int steps, float step_size, float radius) {
  with_tile(run, [&](auto tile) {
    run(Descend<tile>{packed, z0, x, score, z, reconstruction, n.images, n.classes, steps, step_size, radius},
        blocks_a_class(run.processors, n.classes, n.images, tile), n.classes);
  });
}

}  // namespace arena::cuda
