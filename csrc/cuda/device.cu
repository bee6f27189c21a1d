// What there is to run on, and the weights' layout: nothing here needs a GPU or a driver.
#include "launch.h"

#ifndef ARENA_CUDA_ARCHITECTURES
#error "the build defines ARENA_CUDA_ARCHITECTURES"
#endif

namespace arena::cuda {

int devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::string architectures() { return ARENA_CUDA_ARCHITECTURES; }

bool supports(int device) {
  constexpr int sweep = LatentSweep<1>::shared, descent = LatentDescent<1>::shared;
  constexpr int least = static_cast<int>(sizeof(float)) * (sweep > descent ? sweep : descent);
  return device < devices() && attribute(cudaDevAttrComputeCapabilityMajor, device) >= 8 &&
         attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device) >= least;
}

int processors(int device) { return attribute(cudaDevAttrMultiProcessorCount, device); }

std::int64_t packed_size() { return Packed::size; }

void pack(ConstView<2> folded, View<2> packed) {
  Shapes{true, {{'F', kFoldedSize}, {'W', Packed::size}}}("folded", folded, "CF")("packed", packed, "CW");
  for (std::int64_t i = 0; i < folded.shape[0]; ++i)
    pack(folded.data + i * kFoldedSize, packed.data + i * Packed::size);
}

}  // namespace arena::cuda
