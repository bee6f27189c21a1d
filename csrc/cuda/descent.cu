#include "launch.h"

namespace arena::cuda {

void load_descent() { load_kernels<LatentDescent<1>, LatentDescent<2>>(); }

void latent_descent(Stream stream, ConstView<2> packed, ConstView<3> z0, ConstView<2> x, Descent settings,
                    View<2> score, View<3> z, std::optional<View<3>> reconstruction) {
  plan_latent_descent(Gpu(packed.device, stream), packed, z0, x, settings, score, z, reconstruction);
}

}  // namespace arena::cuda
