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

std::string error() {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return "";
  cudaGetLastError();
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
  return std::string(cudaGetErrorString(error)) + " (" + (driver ? "driver of CUDA " + version(driver) : "no driver") +
         ", runtime of CUDA " + version(runtime) + ")";
}

std::string architectures() { return ARENA_CUDA_ARCHITECTURES; }

bool supports(int device) {
  constexpr int sweep = LatentSweep<1>::shared, descent = LatentDescent<1>::shared;
  constexpr int least = static_cast<int>(sizeof(float)) * (sweep > descent ? sweep : descent);
  return device < devices() && attribute(cudaDevAttrComputeCapabilityMajor, device) >= 8 &&
         attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device) >= least;
}

void load(int device) {
  const DeviceGuard guard(device);
  load_decode();
  load_sweep();
  load_descent();
}

int processors(int device) { return attribute(cudaDevAttrMultiProcessorCount, device); }

std::int64_t packed_size() { return Packed::size; }

void pack(ConstView<2> folded, View<2> packed) {
  Shapes{true, {{'F', kFoldedSize}, {'W', Packed::size}}}("folded", folded, "CF")("packed", packed, "CW");
  for (std::int64_t i = 0; i < folded.shape[0]; ++i)
    pack(folded.data + i * kFoldedSize, packed.data + i * Packed::size);
}

}  // namespace arena::cuda
