#include "launch.h"

namespace arena::cuda {

void load_decode() { load_kernels<Decode<1>, Decode<2>, DecodeBackward<1>, DecodeBackward<2>>(); }

void decode(Stream stream, ConstView<2> packed, ConstView<3> z, View<3> image) {
  plan_decode(Gpu(packed.device, stream), packed, z, image);
}

void latent_bank(Stream stream, ConstView<2> packed, ConstView<2> latents, View<3> bank) {
  plan_latent_bank(Gpu(packed.device, stream), packed, latents, bank);
}

void decode_backward(Stream stream, ConstView<2> packed, ConstView<3> z, ConstView<3> gradient, View<3> dz) {
  plan_decode_backward(Gpu(packed.device, stream), packed, z, gradient, dz);
}

}  // namespace arena::cuda
