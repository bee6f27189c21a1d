// The operators on CUDA memory. Addresses are device addresses (but of `pack`), arrays contiguous float32 in rows of
// ../operators.h; work is queued on the stream and may not be finished on return. Errors of CUDA are exceptions.
#pragma once

#include "../operators.h"

namespace arena::cuda {

struct Stream {
  int device;
  std::uintptr_t handle;  // cudaStream_t
};

int devices();                     // GPUs that the driver shows; 0 without a driver
std::string architectures();       // what this build holds code for
bool supports(int device);         // enough shared memory and a known architecture
int processors(int device);        // multiprocessors

// Weights on the host: folded [classes][kFoldedSize] -> packed [classes][packed_size()].
std::int64_t packed_size();
void pack(const float* folded, float* packed, std::int64_t classes);

void decode(Stream stream, const float* packed, const float* z, float* image, std::int64_t classes, std::int64_t points,
            Strides z_stride, Strides image_stride);
void decode_back(Stream stream, const float* packed, const float* z, const float* gradient, float* dz, const Sizes& n);

// columns [784][images]. keys: room for sweep_lists() * images * classes * k keys.
std::int64_t sweep_lists(int device, std::int64_t classes, std::int64_t points);
void sweep(Stream stream, const float* packed, const float* latents, const float* columns, std::uint64_t* keys,
           float* score, std::int64_t* index, const Sizes& n, int k);
void score_bank(Stream stream, const float* bank, const float* latents, const float* columns, std::uint64_t* keys,
                float* score, std::int64_t* index, const Sizes& n, int k);

void descend(Stream stream, const float* packed, const float* z0, const float* x, float* score, float* z,
             float* reconstruction, const Sizes& n, int steps, float step_size, float radius);

}  // namespace arena::cuda
