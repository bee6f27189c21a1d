// The kernels of one instruction set. Compiled once for each with its own flags, ARENA_ISA and ARENA_LANES.
#include "decoder.h"
#include "score.h"
#include "screen.h"

namespace arena::ARENA_ISA {
namespace {

// f(first, group) for runs of kGroup points, then one by one: both sizes give the same bits.
template <class F>
ARENA_INLINE void in_groups(std::int64_t count, F&& f) {
  std::int64_t i = 0;
  for (; i + kGroup <= count; i += kGroup) f(i, std::integral_constant<int, kGroup>{});
  for (; i < count; ++i) f(i, std::integral_constant<int, 1>{});
}

template <int GROUP>
ARENA_INLINE Decoder<GROUP>& decoder_in(void* scratch) {
  return *static_cast<Decoder<GROUP>*>(scratch);
}

void decode(const float* packed, Rows<const float> z, Rows<float> image, std::int64_t count, void* scratch) {
  in_groups(count, [&](std::int64_t first, auto group) {
    auto& decoder = decoder_in<group>(scratch);
    const float* points[group];
    for (int g = 0; g < group; ++g) points[g] = z[first + g];
    decoder.start(packed, points);
    for (int g = 0; g < group; ++g) {
      decoder.decode(packed, g);
      __builtin_memcpy(image[first + g], decoder.image[g], sizeof(float) * kPixels);
    }
  });
}

void decode_backward(const float* packed, Rows<const float> z, Rows<const float> gradient, Rows<float> dz,
                     std::int64_t count, void* scratch) {
  in_groups(count, [&](std::int64_t first, auto group) {
    auto& decoder = decoder_in<group>(scratch);
    const float* points[group];
    for (int g = 0; g < group; ++g) points[g] = z[first + g];
    decoder.start(packed, points);
    for (int g = 0; g < group; ++g) {
      decoder.decode(packed, g);
      __builtin_memcpy(decoder.gradient, gradient[first + g], sizeof(float) * kPixels);
      decoder.backward(packed, g);
    }
    float result[group][kLatent];
    decoder.end(packed, result);
    for (int g = 0; g < group; ++g) __builtin_memcpy(dz[first + g], result[g], sizeof result[g]);
  });
}

void latent_sweep(const float* packed, const float* latents, std::int64_t first, std::int64_t count,
                  Rows<const float> x, std::int64_t images, const Best* best, void* scratch) {
  in_groups(count, [&](std::int64_t i, auto group) {
    auto& decoder = decoder_in<group>(scratch);
    const float *z[group], *points[kGroup];
    for (int g = 0; g < group; ++g) z[g] = latents + (first + i + g) * kLatent;
    for (int q = 0; q < kGroup; ++q) points[q] = decoder.image[q < group ? q : 0];
    decoder.start(packed, z);
    for (int g = 0; g < group; ++g) decoder.decode(packed, g);
    score_points(points, latents, first + i, group, x, images, best);
  });
}

void bank_sweep(const float* bank, const float* latents, std::int64_t first, std::int64_t count, Rows<const float> x,
                std::int64_t images, const Best* best) {
  for (std::int64_t i = first; i < first + count; i += kGroup) {
    const int group = first + count - i < kGroup ? static_cast<int>(first + count - i) : kGroup;
    const float* points[kGroup];
    for (int q = 0; q < kGroup; ++q) points[q] = bank + (i + (q < group ? q : 0)) * kPixels;
    score_points(points, latents, i, group, x, images, best);
  }
}

// gradient = dF/dimage; returns the score F(x, z).
ARENA_INLINE float compare(const float* image, const float* x, const float* z, float* gradient) {
  V sum = {};
  for (int i = 0; i < kPixels; i += W) {
    const V difference = load(image + i) - load(x + i);
    sum += difference * difference;
    store(gradient + i, difference * 2.0f);
  }
  float lanes[W], total = 0.0f;
  store(lanes, sum);
  for (int i = 0; i < W; ++i) total += lanes[i];
  return total + prior(z);
}

template <int GROUP>
void latent_descent_group(const float* packed, Descent settings, const float* const* x, float (*z)[kLatent],
                          float* score, Decoder<GROUP>& decoder) {
  Adam adam[GROUP];
  const float* points[GROUP];
  for (int g = 0; g < GROUP; ++g) points[g] = z[g];
  for (int step = 1; step <= settings.steps; ++step) {
    decoder.start(packed, points);
    for (int g = 0; g < GROUP; ++g) {
      decoder.decode(packed, g);
      score[g] = compare(decoder.image[g], x[g], z[g], decoder.gradient);
      if (step < settings.steps) decoder.backward(packed, g);
    }
    if (step == settings.steps) return;
    float dz[GROUP][kLatent];
    decoder.end(packed, dz);
    for (int g = 0; g < GROUP; ++g) {
      for (int i = 0; i < kLatent; ++i) dz[g][i] += z[g][i];
      adam[g].step(z[g], dz[g], settings.step_size, settings.radius);
    }
  }
}

void latent_descent(const float* packed, Descent settings, Rows<const float> z0, Rows<const float> x, Rows<float> z,
                    Rows<float> score, Rows<float> reconstruction, std::int64_t count, void* scratch) {
  in_groups(count, [&](std::int64_t first, auto group) {
    auto& decoder = decoder_in<group>(scratch);
    const float* images[group];
    float points[group][kLatent], scores[group] = {};
    for (int g = 0; g < group; ++g) {
      images[g] = x[first + g];
      __builtin_memcpy(points[g], z0[first + g], sizeof points[g]);
    }
    latent_descent_group<group>(packed, settings, images, points, scores, decoder);
    for (int g = 0; g < group; ++g) {
      __builtin_memcpy(z[first + g], points[g], sizeof points[g]);
      *score[first + g] = scores[g];
      if (reconstruction.data) __builtin_memcpy(reconstruction[first + g], decoder.image[g], sizeof(float) * kPixels);
    }
  });
}

#define ARENA_NAME_OF(isa) #isa
#define ARENA_NAME(isa) ARENA_NAME_OF(isa)

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {ARENA_NAME(ARENA_ISA),
                         Packed::size,
                         sizeof(Decoder<kGroup>),
                         pack,
                         decode,
                         decode_backward,
                         latent_sweep,
                         bank_sweep,
                         screen_bank,
                         screen_image,
                         screened_sweep,
                         latent_descent};

}  // namespace arena::ARENA_ISA
