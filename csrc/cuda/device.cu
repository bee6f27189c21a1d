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
  constexpr int least = static_cast<int>(sizeof(float)) *
                        (Sweep<1>::shared > Descend<1>::shared ? Sweep<1>::shared : Descend<1>::shared);
  return device < devices() && attribute(cudaDevAttrComputeCapabilityMajor, device) >= 8 &&
         attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device) >= least;
}

int processors(int device) { return attribute(cudaDevAttrMultiProcessorCount, device); }

std::int64_t packed_size() { return Packed::size; }

void pack(const float* folded, float* packed, std::int64_t classes) {
  for (std::int64_t i = 0; i < classes; ++i) pack(folded + i * kFoldedSize, packed + i * Packed::size);
}

}  // namespace arena::cuda
