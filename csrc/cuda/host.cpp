// The CUDA kernels' bodies on one thread of the CPU, for the tests: tests/cuda_on_host.py compiles this file. `order` is
// 1 where the items of a phase go forwards, -1 backwards; `points_a_block` is how many points share a block, 1 or 2.
#include <limits>
#include <stdexcept>
#include <vector>

#include "plan.h"

namespace arena::cuda {
namespace {

struct HostTeam {
  int order;

  template <class F>
  void each(int items, F&& f) const {
    for (int i = 0; i < items; ++i) f(order > 0 ? i : items - 1 - i);
  }
};

struct Host {
  int processors, order;
  bool two_points;

  // Blocks one after the other, each with memory full of NaN and an edge that nobody may touch.
  template <class Body>
  void operator()(const Body& body, int blocks, std::int64_t classes) const {
    constexpr std::size_t edge = 64;
    constexpr float mark = 12345.0f, nothing = std::numeric_limits<float>::quiet_NaN();
    for (int label = 0; label < classes; ++label)
      for (int block = 0; block < blocks; ++block) {
        std::vector<Quad> memory(2 * edge / 4 + Body::shared / 4 + 1, Quad{{mark, mark, mark, mark}});
        float* shared = memory.data()->v + edge;
        for (std::size_t i = 0; i < Body::shared; ++i) shared[i] = nothing;
        body(HostTeam{order}, shared, Place{block, blocks, label});
        for (std::size_t i = 0; i < edge; ++i)
          if (shared[-1 - static_cast<int>(i)] != mark || shared[Body::shared + i] != mark) throw std::out_of_range("");
      }
  }
};

constexpr int kProcessors = 7;

Host host(int order, int points) { return {kProcessors, order, points == 2}; }

}  // namespace
}  // namespace arena::cuda

using namespace arena;
using namespace arena::cuda;
using Size = std::int64_t;

extern "C" {

Size packed_size() { return Packed::size; }

void pack_weights(const float* folded, float* packed, Size classes) {
  for (Size i = 0; i < classes; ++i) pack(folded + i * kFoldedSize, packed + i * Packed::size);
}

std::uint64_t key_of(float score, std::uint32_t index) { return make_key(score, index); }
float key_score(std::uint64_t key) { return score_of(key); }
Size key_index(std::uint64_t key) { return index_of(key); }

void decode(int order, int points_a_block, const float* packed, const float* z, float* image, Size classes, Size points,
            Size z_class, Size z_point, Size image_class, Size image_point) {
  plan_decode(host(order, points_a_block), packed, z, image, classes, points, {z_class, z_point},
              {image_class, image_point});
}

void decode_back(int order, int points_a_block, const float* packed, const float* z, const float* gradient, float* dz,
                 Size images, Size classes) {
  plan_decode_back(host(order, points_a_block), packed, z, gradient, dz, {images, classes, 0});
}

Size sweep_lists(Size classes, Size points) { return sweep_lists_of(kProcessors, classes, points); }

void sweep(int order, int points_a_block, const float* packed, const float* latents, const float* columns, Key* keys,
           float* score, Size* index, Size images, Size classes, Size points, int k) {
  plan_sweep(host(order, points_a_block), packed, latents, columns, keys, score, index, {images, classes, points}, k);
}

void score_bank(int order, int points_a_block, const float* bank, const float* latents, const float* columns, Key* keys,
                float* score, Size* index, Size images, Size classes, Size points, int k) {
  const Host run = host(order, points_a_block);
  plan_score_bank(run, bank, latents, columns, keys, score, index, {images, classes, points}, k);
}

void descend(int order, int points_a_block, const float* packed, const float* z0, const float* x, float* score,
             float* z, float* reconstruction, Size images, Size classes, int steps, float step_size, float radius) {
  plan_descend(host(order, points_a_block), packed, z0, x, score, z, reconstruction, {images, classes, 0}, steps,
               step_size, radius);
}

}
