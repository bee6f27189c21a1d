// Runs bodies on a GPU. Every call of CUDA is checked.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "operators.h"
#include "plan.h"

namespace arena::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // told here: a later launch must not tell it again
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error));
}

inline int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, name, device), "cannot ask the device for its properties");
  return value;
}

// Makes `device` the current one for as long as this lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&before_), "no current device");
    changed_ = device != before_;
    if (changed_) check(cudaSetDevice(device), "cannot use the device");
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

#ifdef __CUDACC__

struct GpuThreadBlock {
  template <class F>
  ARENA_BODY void each(int items, F&& f) const {
    for (int i = threadIdx.x; i < items; i += kThreads) f(i);
    __syncthreads();
  }
};

template <class Body>
__global__ void __launch_bounds__(kThreads, 1) run_body(Body body) {
  extern __shared__ Quad memory[];
  const BlockIndex id{static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x), static_cast<int>(blockIdx.y)};
  body(GpuThreadBlock{}, reinterpret_cast<float*>(memory), id);
}

// Loads kernels onto the current device. CUDA leaves that to their first launch, and a driver older than CUDA 12.3
// fails there if it is in a graph capture.
template <class... Bodies>
void load_kernels() {
  cudaFuncAttributes attributes;
  (check(cudaFuncGetAttributes(&attributes, run_body<Bodies>), "a kernel cannot be loaded"), ...);
}

// The kernels that decode.cu, sweep.cu and descent.cu hold.
void load_decode();
void load_sweep();
void load_descent();

// The Runner of plan.h.
class Gpu {
 public:
  Gpu(int device, Stream stream)
      : processors(attribute(cudaDevAttrMultiProcessorCount, device)),
        two_points(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device) >= kBytesForTwo), guard_(device),
        stream_(reinterpret_cast<cudaStream_t>(stream)) {}

  template <class Body>
  void operator()(const Body& body, int blocks, std::int64_t classes) const {
    if (blocks == 0 || classes == 0) return;
    constexpr int bytes = Body::shared * static_cast<int>(sizeof(float));
    if (classes > 65535) throw std::invalid_argument("CUDA: more than 65535 classes");
    check(cudaFuncSetAttribute(run_body<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
          "a block cannot have the shared memory that the kernel needs");
    run_body<Body><<<dim3(blocks, static_cast<unsigned>(classes)), kThreads, bytes, stream_>>>(body);
    check(cudaGetLastError(), "the kernel was not launched");
  }

  static constexpr int kBytesForTwo = 227 * 1024;
  static constexpr bool on_cpu = false;
  const int processors;
  const bool two_points;

 private:
  const DeviceGuard guard_;
  const cudaStream_t stream_;
};

static_assert(LatentSweep<2>::shared * sizeof(float) <= Gpu::kBytesForTwo);
static_assert(LatentDescent<2>::shared * sizeof(float) <= Gpu::kBytesForTwo);

#endif

}  // namespace arena::cuda
