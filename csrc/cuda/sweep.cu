#include "launch.h"

namespace arena::cuda {

std::int64_t sweep_lists(int device, std::int64_t classes, std::int64_t points) {
  return sweep_lists_of(processors(device), classes, points);
}

void sweep(Stream stream, const float* packed, const float* latents, const float* columns, std::uint64_t* keys,
           float* score, std::int64_t* index, const Sizes& n, int k) {
  plan_sweep(Gpu(stream), packed, latents, columns, keys, score, index, n, k);
}

void score_bank(Stream stream, const float* bank, const float* latents, const float* columns, std::uint64_t* keys,
                float* score, std::int64_t* index, const Sizes& n, int k) {
  plan_score_bank(Gpu(stream), bank, latents, columns, keys, score, index, n, k);
}

}  // namespace arena::cuda
