#include "launch.h"

namespace arena::cuda {

void descend(Stream stream, const float* packed, const float* z0, const float* x, float* score, float* z,
             float* reconstruction, const Sizes& n, int steps, float step_size, float radius) {
  plan_descend(Gpu(stream), packed, z0, x, score, z, reconstruction, n, steps, step_size, radius);
}

}  // namespace arena::cuda
