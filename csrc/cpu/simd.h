// Vectors of ARENA_LANES floats in the compiler's own extension (GCC 12, Clang 14): one intrinsic, no <cmath>.
//
// Everything lives in a namespace of its own per instruction set, so that the linker can never serve the baseline
// with code that was compiled for AVX-512.
#pragma once

#include <cstdint>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../geometry.h"

#define ARENA_INLINE_LAMBDA __attribute__((always_inline))

namespace arena::ARENA_ISA {

constexpr int W = ARENA_LANES;
typedef float V __attribute__((vector_size(4 * ARENA_LANES)));
typedef unsigned U __attribute__((vector_size(4 * ARENA_LANES)));
typedef int Int __attribute__((vector_size(4 * ARENA_LANES)));
typedef std::int16_t Half __attribute__((vector_size(4 * ARENA_LANES)));  // two to a lane

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

template <int S, class T, int... I>
ARENA_INLINE T add_halves(T a, T b, std::integer_sequence<int, I...>) {
  constexpr auto half = [](int i, int upper) { return (i & ~(2 * S - 1)) + (i & (S - 1)) + upper + (i & S ? W : 0); };
  return __builtin_shufflevector(a, b, half(I, 0)...) + __builtin_shufflevector(a, b, half(I, S)...);
}

// Lane i of the result is the sum of the lanes of v[i], in one fixed order: a transposition that adds as it goes.
template <int S = 1, class T>
ARENA_INLINE T sums(const T* v) {
  if constexpr (S == W)
    return v[0];
  else
    return add_halves<S>(sums<2 * S>(v), sums<2 * S>(v + S), std::make_integer_sequence<int, W>{});
}

// a[2 i] b[2 i] + a[2 i + 1] b[2 i + 1]: one instruction, which the compiler does not find by itself.
ARENA_INLINE Int multiply_add(Half a, Half b) {
#if defined(__AVX512BW__)
  return (Int)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Int)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Int)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const Int wide_a = (Int)a, wide_b = (Int)b;  // the lower of two shorts, its sign extended, and the upper
  return (wide_a << 16 >> 16) * (wide_b << 16 >> 16) + (wide_a >> 16) * (wide_b >> 16);
#endif
}

}  // namespace arena::ARENA_ISA
