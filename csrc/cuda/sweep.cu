#include "launch.h"

namespace arena::cuda {

void load_sweep() { load_kernels<LatentSweep<1>, LatentSweep<2>, BankSweep, MergeBest>(); }

std::int64_t sweep_lists(int device, std::int64_t classes, std::int64_t points) {
  return sweep_lists_of(processors(device), classes, points);
}

void latent_sweep(Stream stream, ConstView<2> packed, ConstView<2> latents, ConstView<2> columns,
                  View<4, std::int64_t> keys, View<3> score, View<3, std::int64_t> index) {
  plan_latent_sweep(Gpu(packed.device, stream), packed, latents, columns, keys, score, index);
}

void bank_sweep(Stream stream, ConstView<3> bank, ConstView<2> latents, ConstView<2> columns,
                View<4, std::int64_t> keys, View<3> score, View<3, std::int64_t> index) {
  plan_bank_sweep(Gpu(bank.device, stream), bank, latents, columns, keys, score, index);
}

}  // namespace arena::cuda
