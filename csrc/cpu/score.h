// Scores of decoded points against a batch of images, and the best of them.
#pragma once

#include "../kernels.h"
#include "simd.h"

namespace arena::ARENA_ISA {

constexpr int kGroup = 4;            // points scored together
constexpr int kImages = W / kGroup;  // images scored together: one lane of the result for each pair

ARENA_INLINE float prior(const float* z) {
  float sum = 0.0f;
  for (int i = 0; i < kLatent; ++i) sum = __builtin_fmaf(z[i], z[i], sum);
  return 0.5f * sum;
}

ARENA_INLINE void keep(const Best& best, float score, std::int64_t index) {
  int at = best.k - 1;
  if (score > best.score[at] || !better(score, index, best.score[at], best.index[at])) return;
  for (; at > 0 && better(score, index, best.score[at - 1], best.index[at - 1]); --at) {
    best.score[at] = best.score[at - 1];
    best.index[at] = best.index[at - 1];
  }
  best.score[at] = score;
  best.index[at] = index;
}

// One score, with the bits of `score_points`.
ARENA_INLINE float score_point(const float* point, const float* z, const float* x) {
  V sum[W] = {};
  for (int pixel = 0; pixel < kPixels; pixel += W) {
    const V difference = load(x + pixel) - load(point + pixel);
    sum[0] += difference * difference;
  }
  return sums(sum)[0] + prior(z);
}

// Points first ... first + count - 1 (at most kGroup), decoded at points[kGroup] (repeat one to fill up). The
// difference is squared as it is: |x|^2 - 2 x.g + |g|^2 would lose digits where image and point are close.
inline void score_points(const float* const* points, const float* latents, std::int64_t first, int count,
                         Rows<const float> x, std::int64_t images, const Best* best) {
  float priors[kGroup];
  for (int q = 0; q < count; ++q) priors[q] = prior(latents + (first + q) * kLatent);
  for (std::int64_t image = 0; image < images; image += kImages) {
    const float* rows[kImages];
    for (int j = 0; j < kImages; ++j) rows[j] = x[image + j < images ? image + j : image];
    V sum[W] = {};
    for (int pixel = 0; pixel < kPixels; pixel += W) {
      V point[kGroup];
      unroll<kGroup>([&](auto q) ARENA_INLINE_LAMBDA { point[q] = load(points[q] + pixel); });
      unroll<kImages>([&](auto j) ARENA_INLINE_LAMBDA {
        const V row = load(rows[j] + pixel);
        unroll<kGroup>([&](auto q) ARENA_INLINE_LAMBDA {
          const V difference = row - point[q];
          sum[j * kGroup + q] += difference * difference;
        });
      });
    }
    float total[W];
    store(total, sums(sum));
    for (int j = 0; j < kImages && image + j < images; ++j)
      for (int q = 0; q < count; ++q) keep(best[image + j], total[j * kGroup + q] + priors[q], first + q);
  }
}

}  // namespace arena::ARENA_ISA
