// The operators on CPU memory, multi-threaded. Arrays are contiguous float32 unless strides say otherwise; results do
// not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace arena {

struct Sizes {
  std::int64_t images, classes, points;
};

// Distance in floats from one class, or one point of a class, to the next.
struct Strides {
  std::ptrdiff_t of_class, of_point;
};

std::vector<std::string> instruction_sets();  // that this CPU can run, best first
std::string instruction_set();                // the one in use
void set_instruction_set(const std::string& name);  // throws std::invalid_argument

// Weights: folded [classes][kFoldedSize] (geometry.h) -> packed [classes][packed_size()], for all other operators.
std::int64_t packed_size();
void pack(const float* folded, float* packed, std::int64_t classes);

void decode(const float* packed, const float* z, float* image, std::int64_t classes, std::int64_t points,
            Strides z_stride, Strides image_stride, int threads);

// z, dz [images][classes][8], gradient [images][classes][784].
void decode_back(const float* packed, const float* z, const float* gradient, float* dz, const Sizes& n, int threads);

// latents [points][8], x [images][784] -> score, index [images][classes][k], best first.
void sweep(const float* packed, const float* latents, const float* x, float* score, std::int64_t* index,
           const Sizes& n, int k, int threads);

// The same from decoded points: bank [classes][points][784].
void score_bank(const float* bank, const float* latents, const float* x, float* score, std::int64_t* index,
                const Sizes& n, int k, int threads);

// z0 [images][classes][8], x [images][784] -> score [images][classes], z as z0; reconstruction [images][classes][784] or
// null.
void descend(const float* packed, const float* z0, const float* x, float* score, float* z, float* reconstruction,
             const Sizes& n, int steps, float step_size, float radius, int threads);

}  // namespace arena
