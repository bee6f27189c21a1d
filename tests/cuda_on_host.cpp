// The CUDA operators on one thread of the CPU, as C functions: cuda_on_host.py compiles this file. `order` is 1 where
// the items of a phase go forwards, -1 backwards; `points_a_block` is how many points share a block, 1 or 2.
#include "cuda_host.h"

using namespace arena;
using namespace arena::cuda;

namespace {

Host<OneThread> host(int order, int points_a_block) { return {{order}, points_a_block == 2}; }

}  // namespace

extern "C" {

std::int64_t packed_size() { return Packed::size; }

void pack_weights(ConstView<2> folded, View<2> packed) {
  for (std::int64_t i = 0; i < folded.shape[0]; ++i)
    pack(folded.data + i * kFoldedSize, packed.data + i * Packed::size);
}

std::uint64_t key_of(float score, std::uint32_t index) { return make_key(score, index); }
float key_score(std::uint64_t key) { return score_of(key); }
std::int64_t key_index(std::uint64_t key) { return index_of(key); }

void decode(int order, int points_a_block, ConstView<2> packed, ConstView<3> z, View<3> image) {
  plan_decode(host(order, points_a_block), packed, z, image);
}

void decode_backward(int order, int points_a_block, ConstView<2> packed, ConstView<3> z, ConstView<3> gradient,
                     View<3> dz) {
  plan_decode_backward(host(order, points_a_block), packed, z, gradient, dz);
}

void latent_bank(int order, int points_a_block, ConstView<2> packed, ConstView<2> latents, View<3> bank) {
  plan_latent_bank(host(order, points_a_block), packed, latents, bank);
}

std::int64_t sweep_lists(std::int64_t classes, std::int64_t points) {
  return sweep_lists_of(Host<OneThread>::processors, classes, points);
}

void latent_sweep(int order, int points_a_block, ConstView<2> packed, ConstView<2> latents, ConstView<2> columns,
                  View<4, std::int64_t> keys, View<3> score, View<3, std::int64_t> index) {
  plan_latent_sweep(host(order, points_a_block), packed, latents, columns, keys, score, index);
}

void bank_sweep(int order, int points_a_block, ConstView<3> bank, ConstView<2> latents, ConstView<2> columns,
                View<4, std::int64_t> keys, View<3> score, View<3, std::int64_t> index) {
  plan_bank_sweep(host(order, points_a_block), bank, latents, columns, keys, score, index);
}

void latent_descent(int order, int points_a_block, ConstView<2> packed, ConstView<3> z0, ConstView<2> x,
                    Descent settings, View<2> score, View<3> z, View<3> reconstruction) {
  const auto wanted = reconstruction.data ? std::optional(reconstruction) : std::nullopt;
  plan_latent_descent(host(order, points_a_block), packed, z0, x, settings, score, z, wanted);
}
}
