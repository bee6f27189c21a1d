#include "launch.h"

namespace arena::cuda {

void decode(Stream stream, const float* packed, const float* z, float* image, std::int64_t classes, std::int64_t points,
            Strides z_stride, Strides image_stride) {
  plan_decode(Gpu(stream), packed, z, image, classes, points, z_stride, image_stride);
}

void decode_back(Stream stream, const float* packed, const float* z, const float* gradient, float* dz,
                 const Sizes& n) {
  plan_decode_back(Gpu(stream), packed, z, gradient, dz, n);
}

}  // namespace arena::cuda
