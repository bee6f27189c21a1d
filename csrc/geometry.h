// The decoder's shape, the order of its folded weights and one Adam step: what every backend agrees on.
#pragma once

#ifdef __CUDACC__
#define ARENA_HOST_DEVICE __host__ __device__
#else
#define ARENA_HOST_DEVICE
#endif

// Never emitted as a function of its own: files for different instruction sets share these headers, and the linker
// must not serve one with another's code.
#define ARENA_INLINE inline __attribute__((always_inline))

namespace arena {

// One transposed convolution without padding: [channels_in, size_in, size_in] -> [channels_out, size_out, size_out].
struct LayerShape {
  int channels_in, size_in, channels_out, kernel, stride;
  ARENA_INLINE constexpr int size_out() const { return (size_in - 1) * stride + kernel; }
  ARENA_INLINE constexpr int weights() const { return channels_in * channels_out * kernel * kernel; }
};

constexpr int kLatent = 8;
constexpr LayerShape kLayers[4] = {{kLatent, 1, 32, 4, 1}, {32, 4, 16, 5, 2}, {16, 11, 16, 5, 2}, {16, 25, 1, 4, 1}};
constexpr int kSide = kLayers[3].size_out();
constexpr int kPixels = kSide * kSide;
constexpr int kCodes = 800;  // 8-bit pixels of an image and zeros up to a whole vector
static_assert(kSide == 28, "the decoder makes 28 x 28 pixels");

// Folded weights of one class, float32, one after the other: for each layer the weights [in][out][ky][kx], then the
// biases [out]. They hold batch norm already.
static constexpr int weights_offset(int layer) {
  int offset = 0;
  for (int i = 0; i < layer; ++i) offset += kLayers[i].weights() + kLayers[i].channels_out;
  return offset;
}
static constexpr int bias_offset(int layer) { return weights_offset(layer) + kLayers[layer].weights(); }
constexpr int kFoldedSize = weights_offset(4);

// Adam (Kingma and Ba, 2015, algorithm 1) with torch's default betas and epsilon, on one latent point. Products that
// end in a sum are fused by name: left to the compiler, that could depend on where the step is inlined.
struct Adam {
  float first[kLatent] = {}, second[kLatent] = {};
  float first_decay = 1.0f, second_decay = 1.0f;  // beta^t

  // One step along -gradient, then the projection onto the ball of `radius`.
  ARENA_HOST_DEVICE ARENA_INLINE void step(float* z, const float* gradient, float step_size, float radius) {
    constexpr float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f;
    first_decay *= beta1;
    second_decay *= beta2;
    const float rate = step_size / (1.0f - first_decay);
    const float root = 1.0f / __builtin_sqrtf(1.0f - second_decay);
    float squared = 0.0f;
    for (int i = 0; i < kLatent; ++i) {
      first[i] = __builtin_fmaf(1.0f - beta1, gradient[i] - first[i], first[i]);
      second[i] = __builtin_fmaf(1.0f - beta2, __builtin_fmaf(gradient[i], gradient[i], -second[i]), second[i]);
      z[i] -= rate * first[i] / __builtin_fmaf(__builtin_sqrtf(second[i]), root, epsilon);
      squared = __builtin_fmaf(z[i], z[i], squared);
    }
    if (squared > radius * radius) {
      const float scale = radius / __builtin_sqrtf(squared);
      for (int i = 0; i < kLatent; ++i) z[i] *= scale;
    }
  }
};

// A descent: so many steps of Adam, the last of which evaluates only, each followed by the projection onto the ball.
struct Descent {
  int steps;
  float step_size, radius;
};

}  // namespace arena
