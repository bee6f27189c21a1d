// A tile of decoded points against the whole batch, with a running minimum.
#pragma once

#include "best.h"
#include "layout.h"

namespace arena::cuda {

constexpr int kImagesAtOnce = 64;

// floats of scratch to score POINTS points: a sum for each row of pixels, point and image.
template <int POINTS>
constexpr int kScoreScratch = kSide * POINTS * kImagesAtOnce;

// ||z||^2 / 2.
ARENA_BODY float prior(const float* z) {
  float sum = 0.0f;
  ARENA_UNROLLED_FOR (int i = 0; i < kLatent; ++i) sum = __builtin_fmaf(z[i], z[i], sum);
  return 0.5f * sum;
}

// decoded [POINTS][kPixels] and z [POINTS][kLatent], the first `count` of them real, the points from `first` on;
// columns [kPixels][images]. Lanes are images; an item compares a row of pixels of two images with all points: each
// pixel that it fetches of a point serves both. Every score is summed in the same order, whatever the batch: pixels of
// a row, then rows.
template <int POINTS, class ThreadBlock>
ARENA_BODY void score_tile(const ThreadBlock& block, const float* decoded, const float* z, std::int64_t first,
                           int count, const float* columns, const BestLists& lists, BlockIndex id, float* scratch) {
  for (std::int64_t start = 0; start < lists.images; start += kImagesAtOnce) {
    const int images = static_cast<int>(smaller(kImagesAtOnce, lists.images - start));
    const int lanes = (images + 1) / 2;
    block.each(kSide * lanes, [&](int i) {
      const int row = i / lanes, one = i % lanes, two = one + lanes < images ? one + lanes : one;
      const float* column = columns + row * kSide * lists.images + start;
      float x[kSide][2], sum[POINTS][2] = {};
      ARENA_UNROLLED_FOR (int j = 0; j < kSide; ++j) {
        x[j][0] = column[j * lists.images + one];
        x[j][1] = column[j * lists.images + two];
      }
      ARENA_UNROLLED_FOR (int j = 0; j < kSide; j += 4)
        ARENA_UNROLLED_FOR (int point = 0; point < POINTS; ++point) {
          float pixels[4];
          load(decoded + point * kPixels + row * kSide + j, pixels);
          ARENA_UNROLLED_FOR (int m = 0; m < 4; ++m)
            ARENA_UNROLLED_FOR (int side = 0; side < 2; ++side) {
              const float difference = x[j + m][side] - pixels[m];
              sum[point][side] = __builtin_fmaf(difference, difference, sum[point][side]);
            }
        }
      ARENA_UNROLLED_FOR (int point = 0; point < POINTS; ++point) {
        float* to = scratch + (row * POINTS + point) * kImagesAtOnce;
        to[one] = sum[point][0];
        to[two] = sum[point][1];
      }
    });
    block.each(POINTS * images, [&](int i) {
      const int point = i / images;
      float* sums = scratch + point * kImagesAtOnce + i % images;
      float total = sums[0];
      ARENA_UNROLLED_FOR (int row = 1; row < kSide; ++row) total += sums[row * POINTS * kImagesAtOnce];
      sums[0] = total + prior(z + point * kLatent);
    });
    block.each(images, [&](int image) {
      const BestList best = lists.at(id.block, id.label, start + image);
      for (int point = 0; point < count; ++point)
        best.insert(make_key(scratch[point * kImagesAtOnce + image], static_cast<std::uint32_t>(first + point)));
    });
  }
}

// Empties this block's lists.
template <class ThreadBlock>
ARENA_BODY void clear(const ThreadBlock& block, const BestLists& lists, BlockIndex id) {
  for (std::int64_t start = 0; start < lists.images; start += kThreads)
    block.each(static_cast<int>(smaller(kThreads, lists.images - start)), [&](int i) {
      const BestList best = lists.at(id.block, id.label, start + i);
      for (int j = 0; j < lists.k; ++j) best.key[j * best.stride] = kNothing;
    });
}

}  // namespace arena::cuda
