// What one instruction set offers: work on one class and a run of points, single-threaded. kernels.cpp cuts the tasks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "geometry.h"

namespace arena {

// An array of rows of floats, `stride` floats apart.
template <class T>
struct Rows {
  T* data;
  std::ptrdiff_t stride;
  ARENA_INLINE T* operator[](std::ptrdiff_t i) const { return data + i * stride; }
};

// The k best (score, index) pairs of one image so far, best first. NaN comes before every number, as in torch.min;
// equal scores go by index.
struct Best {
  float* score;
  std::int64_t* index;
  int k;
};

// The bank of one class in 8 bits, [points][kCodes], and the largest L2 distance of a point from its codes / 255; NaN
// or infinity where a point is not finite.
struct Screen {
  const std::uint8_t* codes;
  float error;
};

// An image as screening sees it: `levels` [kCodes] / 4080, its squared norm, and the image's L2 distance from it.
struct Screened {
  const std::int16_t* levels;
  float squared, error;
};

struct Kernels {
  const char* name;
  std::size_t packed_size;   // floats a class
  std::size_t scratch_size;  // bytes a thread

  void (*pack)(const float* folded, float* packed);
  void (*decode)(const float* packed, Rows<const float> z, Rows<float> image, std::int64_t count, void* scratch);
  void (*decode_backward)(const float* packed, Rows<const float> z, Rows<const float> gradient, Rows<float> dz,
                          std::int64_t count, void* scratch);
  void (*latent_sweep)(const float* packed, const float* latents, std::int64_t first, std::int64_t count,
                       Rows<const float> x, std::int64_t images, const Best* best, void* scratch);
  void (*bank_sweep)(const float* bank, const float* latents, std::int64_t first, std::int64_t count,
                     Rows<const float> x, std::int64_t images, const Best* best);
  float (*screen_bank)(const float* bank, std::uint8_t* codes, std::int64_t count);  // returns Screen::error
  Screened (*screen_image)(const float* x, std::int16_t* levels);
  // limits: room for one an image. Returns how many pairs of point and image had to be scored exactly.
  std::int64_t (*screened_sweep)(const float* bank, Screen screen, const float* latents, std::int64_t first,
                                 std::int64_t count, Rows<const float> x, const Screened* screened, std::int64_t images,
                                 const Best* best, float* limits);
  void (*latent_descent)(const float* packed, Descent settings, Rows<const float> z0, Rows<const float> x,
                         Rows<float> z, Rows<float> score, Rows<float> reconstruction, std::int64_t count,
                         void* scratch);
};

// Whether (a, i) is better than (b, j).
ARENA_INLINE bool better(float a, std::int64_t i, float b, std::int64_t j) {
  const bool a_nan = a != a, b_nan = b != b;
  if (a_nan || b_nan) return a_nan && (!b_nan || i < j);
  return a < b || (a == b && i < j);
}

}  // namespace arena
