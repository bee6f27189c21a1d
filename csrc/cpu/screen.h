// Screening: a bank in 8 bits rules out all but a few points, and the few are scored as ever.
//
// The root of F(x, z) = |x - G|^2 + |z|^2 / 2 is a Euclidean distance, that of (x, 0) from (G, z / sqrt(2)). With H of
// 8 bits in place of G and y of 12 bits in place of x it changes by at most E = |G - H| + |x - y|, the triangle
// inequality; so a point of score T or less has |y - H|^2 + |z|^2 / 2 <= (sqrt(T) + E)^2. Points beyond that limit, T
// being the worst score that is kept so far, are left out. Where E, T or the image is not finite, no comparison holds
// and every point is scored.
//
// Products of H and y are integers, exact. All else is rounded: a sum of n terms errs by at most n u / (1 - n u) of
// their magnitudes, u = 2^-24 (Higham 2002, section 3.1), and no chain here or in score.h is longer than
// kPixels / W + 10 additions.
#pragma once

#include "score.h"

namespace arena::ARENA_ISA {

constexpr int kCodeSteps = 255, kLevelSteps = 16 * kCodeSteps;  // an image of 8 bits is exact in 12
constexpr double kRounding = (kPixels / W + 16) * 0x1p-24;
static_assert(kCodes % (2 * W) == 0 && std::int64_t{kPixels} * kCodeSteps * kLevelSteps < std::int64_t{1} << 31);

struct Quantized {
  float squared, difference;  // squared norms of the quantized image, and of what it is off by
};

// `to` gets p [kPixels], cut to [0, 1], in so many steps, and zeros up to kCodes.
template <int STEPS, class T>
ARENA_INLINE Quantized quantize(const float* p, T* to) {
  typedef T Narrow __attribute__((vector_size(sizeof(T) * W)));
  V sum[W] = {};
  for (int pixel = 0; pixel < kCodes; pixel += W) {
    const V exact = pixel < kPixels ? load(p + pixel) : V{};
    const V within = exact > 0.0f ? exact < 1.0f ? exact : V{} + 1.0f : V{};
    const Int rounded = __builtin_convertvector(within * float{STEPS} + 0.5f, Int);
    const Narrow narrow = __builtin_convertvector(rounded, Narrow);
    __builtin_memcpy(to + pixel, &narrow, sizeof narrow);
    const V value = __builtin_convertvector(rounded, V) * (1.0f / STEPS), difference = exact - value;
    sum[0] += value * value, sum[1] += difference * difference;
  }
  float total[W];
  store(total, sums(sum));
  return {total[0], total[1]};
}

// The distance, rounded up: steps / STEPS are rounded twice, by u, in each of kSide^2 pixels.
ARENA_INLINE float error_of(float squared) {
  return static_cast<float>((__builtin_sqrt(squared) + 2 * kSide * 0x1p-24) * (1 + 2 * kRounding));
}

inline float screen_bank(const float* bank, std::uint8_t* codes, std::int64_t count) {
  float largest = 0.0f;
  for (std::int64_t i = 0; i < count; ++i) {
    const float error = error_of(quantize<kCodeSteps>(bank + i * kPixels, codes + i * kCodes).difference);
    if (!(error <= largest) && largest == largest) largest = error;  // NaN stays
  }
  return largest;
}

inline Screened screen_image(const float* x, std::int16_t* levels) {
  const Quantized image = quantize<kLevelSteps>(x, levels);
  return {levels, image.squared, error_of(image.difference)};
}

// A point whose screened score is higher has an exact one above `score`.
ARENA_INLINE float limit_of(float score, float error) {
  const double distance = __builtin_sqrt(score * (1 + 2 * kRounding)) + error;
  return static_cast<float>(distance * distance * (1 + kRounding));
}

typedef std::uint8_t Bytes __attribute__((vector_size(2 * ARENA_LANES)));

ARENA_INLINE Half load_codes(const std::uint8_t* codes) {
  Bytes bytes;
  __builtin_memcpy(&bytes, codes, sizeof bytes);
  return __builtin_convertvector(bytes, Half);
}

// Products of kGroup points with IMAGES images, lane j * kGroup + q for image j and point q.
template <int IMAGES>
ARENA_INLINE Int products(const std::uint8_t* const* points, const Screened* images) {
  Int sum[W] = {};
  for (int pixel = 0; pixel < kCodes; pixel += 2 * W) {
    Half point[kGroup];
    unroll<kGroup>([&](auto q) ARENA_INLINE_LAMBDA { point[q] = load_codes(points[q] + pixel); });
    unroll<IMAGES>([&](auto j) ARENA_INLINE_LAMBDA {
      Half row;
      __builtin_memcpy(&row, images[j].levels + pixel, sizeof row);
      unroll<kGroup>([&](auto q) ARENA_INLINE_LAMBDA { sum[j * kGroup + q] += multiply_add(row, point[q]); });
    });
  }
  return sums(sum);
}

// |H|^2 of points in 8 bits.
ARENA_INLINE float squared_codes(const std::uint8_t* codes) {
  Int sum[W] = {};
  for (int pixel = 0; pixel < kCodes; pixel += 2 * W) {
    const Half h = load_codes(codes + pixel);
    sum[0] += multiply_add(h, h);
  }
  return static_cast<float>(sums(sum)[0]) * (1.0f / (kCodeSteps * kCodeSteps));
}

// The bits of bank_sweep.
inline std::int64_t screened_sweep(const float* bank, Screen screen, const float* latents, std::int64_t first,
                                   std::int64_t count, Rows<const float> x, const Screened* screened,
                                   std::int64_t images, const Best* best, float* limits) {
  const auto limit_now = [&](std::int64_t i) ARENA_INLINE_LAMBDA {
    return limit_of(best[i].score[best[i].k - 1], screen.error + screened[i].error);
  };
  for (std::int64_t i = 0; i < images; ++i) limits[i] = limit_now(i);
  std::int64_t scored = 0;
  for (std::int64_t from = first; from < first + count; from += kGroup) {
    const int group = first + count - from < kGroup ? static_cast<int>(first + count - from) : kGroup;
    const std::uint8_t* points[kGroup];
    float squared[kGroup];
    for (int q = 0; q < kGroup; ++q) {
      const std::int64_t at = from + (q < group ? q : 0);
      points[q] = screen.codes + at * kCodes;
      squared[q] = squared_codes(points[q]) + prior(latents + at * kLatent);
    }
    const auto decide = [&](std::int64_t image, int together, Int product) ARENA_INLINE_LAMBDA {
      constexpr float sure = static_cast<float>(1 - 4 * kRounding), step = 2.0f / (kCodeSteps * kLevelSteps);
      float lanes[W];
      store(lanes, __builtin_convertvector(product, V) * step);
      for (std::int64_t i = image; i < image + together; ++i)
        for (int q = 0; q < group; ++q) {
          if (sure * (screened[i].squared + squared[q]) - lanes[(i - image) * kGroup + q] > limits[i]) continue;
          keep(best[i], score_point(bank + (from + q) * kPixels, latents + (from + q) * kLatent, x[i]), from + q);
          limits[i] = limit_now(i);
          ++scored;
        }
    };
    std::int64_t image = 0;
    for (; image + kImages <= images; image += kImages)
      decide(image, kImages, products<kImages>(points, screened + image));
    for (; image < images; ++image) decide(image, 1, products<1>(points, screened + image));
  }
  return scored;
}

}  // namespace arena::ARENA_ISA
