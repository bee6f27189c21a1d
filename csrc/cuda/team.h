// What a kernel's body is written in: phases over a team of threads, and memory by quads.
//
// A body is a sequence of phases, `team.each(items, f)`: f of every item, in any order and side by side, then a
// barrier. On the GPU a team is a block of threads. On the host it is one thread that goes through the items
// forwards or backwards (host.cpp), so the tests run the same bodies, and a phase whose items depend on each other
// shows as a result that depends on their order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../geometry.h"

#ifdef __CUDACC__
#define ARENA_BODY __device__ __forceinline__
#define ARENA_UNROLL _Pragma("unroll")
#define ARENA_UNROLL_BY(n) _Pragma(ARENA_TEXT(unroll n))
#define ARENA_TEXT(x) #x
#else
#define ARENA_BODY inline
#define ARENA_UNROLL
#define ARENA_UNROLL_BY(n)
#endif

namespace arena::cuda {

// Threads of a block: 12 warps, three for each of the four schedulers of a multiprocessor, up to 168 registers each.
constexpr int kThreads = 384;

// Which part of a grid a block is: blocks of one class share its work.
struct Place {
  int block, blocks, label;
};

// Four floats that travel as one access.
struct alignas(16) Quad {
  float v[4];
};

template <int COUNT>
ARENA_BODY void load(const float* from, float (&to)[COUNT]) {
  static_assert(COUNT % 4 == 0);
  ARENA_UNROLL for (int i = 0; i < COUNT; i += 4) {
    const Quad quad = *reinterpret_cast<const Quad*>(from + i);
    ARENA_UNROLL for (int j = 0; j < 4; ++j) to[i + j] = quad.v[j];
  }
}

template <int COUNT>
ARENA_BODY void store(const float (&from)[COUNT], float* to) {
  static_assert(COUNT % 4 == 0);
  ARENA_UNROLL for (int i = 0; i < COUNT; i += 4)
    *reinterpret_cast<Quad*>(to + i) = {{from[i], from[i + 1], from[i + 2], from[i + 3]}};
}

// `count` floats, a multiple of four, both ends aligned to 16 bytes.
template <class Team>
ARENA_BODY void copy(const Team& team, const float* from, float* to, int count) {
  team.each(count / 4, [&](int i) { reinterpret_cast<Quad*>(to)[i] = reinterpret_cast<const Quad*>(from)[i]; });
}

ARENA_BODY std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

}  // namespace arena::cuda
