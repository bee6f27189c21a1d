// Vectors of ARENA_LANES floats in the compiler's own extension (GCC 12, Clang 14): no intrinsics, no <cmath>.
//
// Everything lives in a namespace of its own per instruction set, so that the linker can never serve the baseline
// with code that was compiled for AVX-512.
#pragma once

#include <utility>

#include "../geometry.h"

#define ARENA_INLINE_LAMBDA __attribute__((always_inline))

namespace arena::ARENA_ISA {

constexpr int W = ARENA_LANES;
typedef float V __attribute__((vector_size(4 * ARENA_LANES)));
typedef unsigned U __attribute__((vector_size(4 * ARENA_LANES)));

ARENA_INLINE V load(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// A load that the compiler must not repeat as the memory operand of each use: load ports are the scarcer resource.
ARENA_INLINE V load_once(const float* p) {
  V v = load(p);
#if defined(__x86_64__)
  asm("" : "+v"(v));
#endif
  return v;
}

ARENA_INLINE void store(float* p, V v) { __builtin_memcpy(p, &v, sizeof v); }

template <class F, int... I>
ARENA_INLINE void unrolled(F&& f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>{}), ...);
}

// f(0) ... f(N - 1) with constant arguments: arrays that they index stay in registers.
template <int N, class F>
ARENA_INLINE void unroll(F&& f) {
  unrolled(f, std::make_integer_sequence<int, N>{});
}

// e^x for x <= 0, NaN excepted; relative error below 3e-7. The magic number rounds x / ln 2 to the integer n and leaves
// it in the low bits, from where a shift adds it to the exponent; e^f for |f| <= ln 2 / 2 is a polynomial of degree 5.
ARENA_INLINE V exp_negative(V x) {
  const V magic = V{} + 12582912.0f;
  x = x > V{} - 87.0f ? x : V{} - 87.0f;
  const V shifted = x * 1.44269504f + magic;
  const V n = shifted - magic;
  const V f = x - n * 0.693147182f;
  V p = f * 8.31252033e-3f + 4.18901575e-2f;
  p = p * f + 1.66671146e-1f;
  p = p * f + 4.99992315e-1f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  return (V)((U)p + ((U)shifted << 23));
}

ARENA_INLINE V elu(V x) { return x < 0.0f ? exp_negative(x) - 1.0f : x; }

// The derivative of ELU, from its value.
ARENA_INLINE V elu_slope(V y) { return y < 0.0f ? y + 1.0f : V{} + 1.0f; }

ARENA_INLINE V sigmoid(V x) {
  const V e = exp_negative(x < 0.0f ? x : -x);
  return (x < 0.0f ? e : x != x ? x : V{} + 1.0f) / (e + 1.0f);
}

template <int S, int... I>
ARENA_INLINE V add_halves(V a, V b, std::integer_sequence<int, I...>) {
  constexpr auto half = [](int i, int upper) { return (i & ~(2 * S - 1)) + (i & (S - 1)) + upper + (i & S ? W : 0); };
  return __builtin_shufflevector(a, b, half(I, 0)...) + __builtin_shufflevector(a, b, half(I, S)...);
}

// Lane i of the result is the sum of the lanes of v[i], in one fixed order: a transposition that adds as it goes.
template <int S = 1>
ARENA_INLINE V sums(const V* v) {
  if constexpr (S == W)
    return v[0];
  else
    return add_halves<S>(sums<2 * S>(v), sums<2 * S>(v + S), std::make_integer_sequence<int, W>{});
}

}  // namespace arena::ARENA_ISA
