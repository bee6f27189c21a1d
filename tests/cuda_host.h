// A stand-in for the GPU: runs the bodies of csrc/cuda on the CPU, blocks one after the other, each with memory full of
// NaN and an edge that nobody may touch. What a block's threads are, the template says.
#pragma once

#include <limits>
#include <stdexcept>
#include <vector>

#include "cuda/plan.h"

namespace arena::cuda {

// The Runner of plan.h. `run_block(body, memory, id)` plays all threads of one block.
template <class RunBlock>
struct Host {
  RunBlock run_block;
  bool two_points;

  static constexpr int processors = 7;
  static constexpr bool on_cpu = true;

  template <class Body>
  void operator()(const Body& body, int blocks, std::int64_t classes) const {
    constexpr std::size_t edge = 64;
    constexpr float mark = 12345.0f, nothing = std::numeric_limits<float>::quiet_NaN();
    for (int label = 0; label < classes; ++label)
      for (int block = 0; block < blocks; ++block) {
        std::vector<Quad> memory(2 * edge / 4 + Body::shared / 4 + 1, Quad{{mark, mark, mark, mark}});
        float* shared = memory.data()->v + edge;
        for (std::size_t i = 0; i < Body::shared; ++i) shared[i] = nothing;
        run_block(body, shared, BlockIndex{block, blocks, label});
        for (std::size_t i = 0; i < edge; ++i)
          if (shared[-1 - static_cast<int>(i)] != mark || shared[Body::shared + i] != mark)
            throw std::out_of_range("a body wrote beyond its shared memory");
      }
  }
};

// A block as one thread that goes through the items of a phase forwards (order 1) or backwards (-1).
struct OneThread {
  int order;

  template <class F>
  void each(int items, F&& f) const {
    for (int i = 0; i < items; ++i) f(order > 0 ? i : items - 1 - i);
  }

  template <class Body>
  void operator()(const Body& body, float* memory, BlockIndex id) const {
    body(*this, memory, id);
  }
};

}  // namespace arena::cuda
