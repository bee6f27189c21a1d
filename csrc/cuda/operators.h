// The operators on CUDA memory, with the shapes of ../operators.h; work is queued on the stream of `packed`'s (or the
// bank's) device and may not be finished on return. Errors of CUDA are exceptions.
#pragma once

#include <optional>
#include <string>

#include "../view.h"

namespace arena::cuda {

using Stream = std::uintptr_t;  // cudaStream_t

int devices();                // GPUs that the driver shows; 0 without a driver or with one that is too old
std::string error();          // why there are none: CUDA's words and the versions of driver and runtime; else empty
std::string architectures();  // what this build holds code for
bool supports(int device);    // enough shared memory and a known architecture
int processors(int device);   // multiprocessors
void load(int device);        // all kernels; else each would be loaded by its first launch

// Weights on the host: folded [C, kFoldedSize] -> packed [C, packed_size()].
std::int64_t packed_size();
void pack(ConstView<2> folded, View<2> packed);

void decode(Stream stream, ConstView<2> packed, ConstView<3> z, View<3> image);
void decode_backward(Stream stream, ConstView<2> packed, ConstView<3> z, ConstView<3> gradient, View<3> dz);
void latent_bank(Stream stream, ConstView<2> packed, ConstView<2> latents, View<3> bank);

// columns [784, B]: x transposed. keys [sweep_lists(), B, C, k]: workspace.
std::int64_t sweep_lists(int device, std::int64_t classes, std::int64_t points);
void latent_sweep(Stream stream, ConstView<2> packed, ConstView<2> latents, ConstView<2> columns,
                  View<4, std::int64_t> keys, View<3> score, View<3, std::int64_t> index);
void bank_sweep(Stream stream, ConstView<3> bank, ConstView<2> latents, ConstView<2> columns,
                View<4, std::int64_t> keys, View<3> score, View<3, std::int64_t> index);

void latent_descent(Stream stream, ConstView<2> packed, ConstView<3> z0, ConstView<2> x, Descent settings,
                    View<2> score, View<3> z, std::optional<View<3>> reconstruction);

}  // namespace arena::cuda
