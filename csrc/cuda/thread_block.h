// What a kernel's body is written in: phases over a block of threads, and memory by quads.
//
// A body is a sequence of phases, `block.each(items, f)`: f of every item, in any order and side by side, then a
// barrier. On the GPU a ThreadBlock is a block of threads. In the tests it is one thread of the CPU that goes through
// the items forwards or backwards, so that a phase whose items depend on each other shows as a result that depends on
// their order, or one real thread for each of the GPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../geometry.h"

#ifdef __CUDACC__
#define ARENA_BODY __device__ __forceinline__
#define ARENA_UNROLLED_FOR _Pragma("unroll") for
#define ARENA_UNROLLED_BY_4_FOR _Pragma("unroll 4") for
#else
#define ARENA_BODY inline
#define ARENA_UNROLLED_FOR for
#define ARENA_UNROLLED_BY_4_FOR for
#endif

namespace arena::cuda {

// Threads of a block: 12 warps, three for each of the four schedulers of a multiprocessor, up to 168 registers each.
constexpr int kThreads = 384;

// Which part of a grid a block is: blocks of one class share its work.
struct BlockIndex {
  int block, blocks, label;
};

// Four floats that travel as one access.
struct alignas(16) Quad {
  float v[4];
};

template <int COUNT>
ARENA_BODY void load(const float* from, float (&to)[COUNT]) {
  static_assert(COUNT % 4 == 0);
  ARENA_UNROLLED_FOR (int i = 0; i < COUNT; i += 4) {
    const Quad quad = *reinterpret_cast<const Quad*>(from + i);
    ARENA_UNROLLED_FOR (int j = 0; j < 4; ++j) to[i + j] = quad.v[j];
  }
}

template <int COUNT>
ARENA_BODY void store(const float (&from)[COUNT], float* to) {
  static_assert(COUNT % 4 == 0);
  ARENA_UNROLLED_FOR (int i = 0; i < COUNT; i += 4)
    *reinterpret_cast<Quad*>(to + i) = {{from[i], from[i + 1], from[i + 2], from[i + 3]}};
}

// `count` floats, a multiple of four, both ends aligned to 16 bytes.
template <class ThreadBlock>
ARENA_BODY void copy(const ThreadBlock& block, const float* from, float* to, int count) {
  block.each(count / 4, [&](int i) { reinterpret_cast<Quad*>(to)[i] = reinterpret_cast<const Quad*>(from)[i]; });
}

ARENA_BODY std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

}  // namespace arena::cuda
