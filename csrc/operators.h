// The operators on CPU memory, multi-threaded. Arrays are contiguous; those whose shapes do not belong together are
// refused with std::invalid_argument. Results do not depend on the number of threads. B images, C classes, P points.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "view.h"

namespace arena {

std::vector<std::string> instruction_sets();        // that this CPU can run, best first
std::string instruction_set();                      // the one in use
void set_instruction_set(const std::string& name);  // throws std::invalid_argument

// Weights: folded [C, kFoldedSize] (geometry.h) -> packed [C, packed_size()], for all other operators.
std::int64_t packed_size();
void pack(ConstView<2> folded, View<2> packed);

// z [B, C, 8] -> image [B, C, 784].
void decode(ConstView<2> packed, ConstView<3> z, View<3> image, int threads);

// The gradient of the image [B, C, 784] -> that of z.
void decode_backward(ConstView<2> packed, ConstView<3> z, ConstView<3> gradient, View<3> dz, int threads);

// latents [P, 8] -> bank [C, P, 784].
void latent_bank(ConstView<2> packed, ConstView<2> latents, View<3> bank, int threads);

// latents [P, 8], x [B, 784] -> score, index [B, C, k], best first.
void latent_sweep(ConstView<2> packed, ConstView<2> latents, ConstView<2> x, View<3> score, View<3, std::int64_t> index,
                  int threads);

// The same from decoded points: bank [C, P, 784].
void bank_sweep(ConstView<3> bank, ConstView<2> latents, ConstView<2> x, View<3> score, View<3, std::int64_t> index,
                int threads);

// bank [C, P, 784] -> codes [C, P, 800] and error [C] (Screen in kernels.h), for screened_sweep.
void screen_bank(ConstView<3> bank, View<3, std::uint8_t> codes, View<1> error, int threads);

// The bits of bank_sweep, with fewer bytes read. Returns how many of the B C P pairs were scored in float32.
std::int64_t screened_sweep(ConstView<3> bank, View<3, const std::uint8_t> codes, ConstView<1> error,
                            ConstView<2> latents, ConstView<2> x, View<3> score, View<3, std::int64_t> index,
                            int threads);

// z0 [B, C, 8], x [B, 784] -> score [B, C], z as z0 and, where it is wanted, reconstruction [B, C, 784].
void latent_descent(ConstView<2> packed, ConstView<3> z0, ConstView<2> x, Descent settings, View<2> score, View<3> z,
                    std::optional<View<3>> reconstruction, int threads);

}  // namespace arena
