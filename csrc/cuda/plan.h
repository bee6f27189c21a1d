// The operators as launches: which body over how many blocks. A Runner is a GPU (launch.h) or its stand-in on the host
// (tests): it knows its memory, how many blocks run side by side, whether two points fit into a block, and how to run
// a body.
#pragma once

#include <optional>

#include "descent.h"
#include "sweep.h"

namespace arena::cuda {

inline int runs(std::int64_t count, int run, std::int64_t most) {
  const std::int64_t wanted = (count + run - 1) / run;
  return static_cast<int>(wanted < most ? wanted : most);
}

// Blocks that share the work of one class. A block fills a multiprocessor, so all of them run at once.
inline int blocks_a_class(int processors, std::int64_t classes, std::int64_t count, int tile) {
  if (classes == 0) return 0;
  const std::int64_t share = classes < processors ? processors / classes : 1;
  return runs(count, tile, share);
}

// How many lists of the best points a sweep keeps for each class and image.
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
Shapes shapes(const Runner& run) {
  return {run.on_cpu, {{'W', Packed::size}}};
}

template <class Runner>
void plan_rows(const Runner& run, ConstView<2> packed, ClassRows<const float> z, ClassRows<float> image,
               std::int64_t points) {
  const std::int64_t classes = packed.shape[0];
  with_tile(run, [&](auto tile) {
    run(Decode<tile>{packed.data, z, image, points}, blocks_a_class(run.processors, classes, points, tile), classes);
  });
}

template <class Runner>
void plan_decode(const Runner& run, ConstView<2> packed, ConstView<3> z, View<3> image) {
  shapes(run)("packed", packed, "CW")("z", z, "BCL")("image", image, "BCX");
  plan_rows(run, packed, points_by_class(z), points_by_class(image), z.shape[0]);
}

template <class Runner>
void plan_latent_bank(const Runner& run, ConstView<2> packed, ConstView<2> latents, View<3> bank) {
  shapes(run)("packed", packed, "CW")("latents", latents, "PL")("bank", bank, "CPX");
  plan_rows(run, packed, points_of_all_classes(latents), classes_by_point(bank), latents.shape[0]);
}

template <class Runner>
void plan_decode_backward(const Runner& run, ConstView<2> packed, ConstView<3> z, ConstView<3> gradient, View<3> dz) {
  shapes(run)("packed", packed, "CW")("z", z, "BCL")("gradient", gradient, "BCX")("dz", dz, "BCL");
  const std::int64_t images = z.shape[0], classes = z.shape[1];
  with_tile(run, [&](auto tile) {
    run(DecodeBackward<tile>{packed.data, z.data, gradient.data, dz.data, images, classes},
        blocks_a_class(run.processors, classes, images, tile), classes);
  });
}

// Lists filled by `sweep(lists, blocks)`, then merged into score and index.
template <class Runner, class Sweep>
void plan_best(const Runner& run, std::int64_t points, View<4, std::int64_t> keys, View<3> score,
               View<3, std::int64_t> index, Sweep&& sweep) {
  const std::int64_t images = score.shape[0], classes = score.shape[1];
  const int blocks = sweep_lists_of(run.processors, classes, points);
  Shapes{run.on_cpu, {{'N', blocks}}}("score", score, "BCK")("index", index, "BCK")("keys", keys, "NBCK");
  if (points == 0) throw std::invalid_argument("latents is empty; a minimum needs at least one point");
  if (images == 0 || classes == 0) return;
  const BestLists lists{reinterpret_cast<Key*>(keys.data), images, classes, static_cast<int>(score.shape[2])};
  sweep(lists, blocks);
  run(MergeBest{lists, blocks, score.data, index.data}, runs(images, kThreads, images), classes);
}

template <class Runner>
void plan_latent_sweep(const Runner& run, ConstView<2> packed, ConstView<2> latents, ConstView<2> columns,
                       View<4, std::int64_t> keys, View<3> score, View<3, std::int64_t> index) {
  shapes(run)("packed", packed, "CW")("latents", latents, "PL")("columns", columns, "XB")("score", score, "BCK");
  const std::int64_t points = latents.shape[0];
  plan_best(run, points, keys, score, index, [&](const BestLists& lists, int blocks) {
    with_tile(run, [&](auto tile) {
      run(LatentSweep<tile>{packed.data, latents.data, columns.data, lists, points}, blocks, lists.classes);
    });
  });
}

template <class Runner>
void plan_bank_sweep(const Runner& run, ConstView<3> bank, ConstView<2> latents, ConstView<2> columns,
                     View<4, std::int64_t> keys, View<3> score, View<3, std::int64_t> index) {
  shapes(run)("bank", bank, "CPX")("latents", latents, "PL")("columns", columns, "XB")("score", score, "BCK");
  const std::int64_t points = latents.shape[0];
  plan_best(run, points, keys, score, index, [&](const BestLists& lists, int blocks) {
    run(BankSweep{bank.data, latents.data, columns.data, lists, points}, blocks, lists.classes);
  });
}

template <class Runner>
void plan_latent_descent(const Runner& run, ConstView<2> packed, ConstView<3> z0, ConstView<2> x, Descent settings,
                         View<2> score, View<3> z, std::optional<View<3>> reconstruction) {
  Shapes check = shapes(run);
  check("packed", packed, "CW")("z0", z0, "BCL")("x", x, "BX")("score", score, "BC")("z", z, "BCL");
  if (reconstruction) check("reconstruction", *reconstruction, "BCX");
  float* const pixels = reconstruction ? reconstruction->data : nullptr;
  const std::int64_t images = z0.shape[0], classes = z0.shape[1];
  with_tile(run, [&](auto tile) {
    run(LatentDescent<tile>{packed.data, z0.data, x.data, score.data, z.data, pixels, images, classes, settings},
        blocks_a_class(run.processors, classes, images, tile), classes);
  });
}

}  // namespace arena::cuda
