// A transposed convolution of kernel 5 and stride 2 as one small matrix product per Toom-Cook point.
#pragma once

#include "toom.h"

namespace arena::ARENA_ISA {

// IN and OUT channels, ROWS input rows, TILES tiles a row of which the last SHORT lack their fourth column.
//   values:   [point][input row][tile][IN]                 what `evaluate` makes of the input
//   products: [point][output row][parity][tile][OUT]       what `interpolate` turns into output columns
// A vector is a run of channels: of OUT going forward, of IN going back.
template <int IN, int OUT, int ROWS, int TILES, int SHORT>
struct Strided {
  static constexpr int channels_in = IN, channels_out = OUT, rows_out = 2 * ROWS + 3;
  static constexpr int value_point = ROWS * TILES * IN, product_point = rows_out * 2 * TILES * OUT;
  static constexpr int values_size = kPoints * value_point, products_size = kPoints * product_point;
  static constexpr int weights_point = 5 * IN * 2 * OUT, weights_size = kPoints * weights_point;

  static constexpr int value_at(int row, int tile) { return (row * TILES + tile) * IN; }
  static constexpr int product_at(int row, int parity, int tile) { return ((row * 2 + parity) * TILES + tile) * OUT; }

  // Even columns of a short tile need 5 points and odd ones 4; those of a full tile 6 and 5.
  static constexpr int even_tiles(int point) { return point < 5 ? TILES : TILES - SHORT; }
  static constexpr int odd_tiles(int point) { return point < 4 ? TILES : point == 4 ? TILES - SHORT : 0; }

  // weights: [point][ky][IN][parity][OUT]
  static void forward(const float* weights, const float* values, float* products) {
    unroll<kPoints>([&](auto point) ARENA_INLINE_LAMBDA {
      for (int lane = 0; lane < OUT; lane += W)
        for (int pair = 0; pair <= ROWS + 1; ++pair)
          row_pair<point>(pair, weights + point * weights_point + lane, values + point * value_point,
                          products + point * product_point + lane);
    });
  }

  // weights: [point][ky][OUT][parity][IN]
  static void backward(const float* weights, const float* products, float* values) {
    constexpr int block = TILES == 3 ? 4 : 2;  // input rows at a time: enough independent sums to keep FMA units busy
    unroll<kPoints>([&](auto point) ARENA_INLINE_LAMBDA {
      const float* t = weights + point * weights_point;
      const float* p = products + point * product_point;
      float* v = values + point * value_point;
      for (int lane = 0; lane < IN; lane += W) {
        int row = 0;
        for (; row + block <= ROWS; row += block) rows_backward<point, block>(row, t + lane, p, v + lane);
        if constexpr (ROWS % block) rows_backward<point, ROWS % block>(row, t + lane, p, v + lane);
      }
    });
  }

 private:
  // Output rows 2 pair and 2 pair + 1: input row pair - i reaches them by weights 2 i and 2 i + 1 (none is 5).
  template <int POINT>
  static ARENA_INLINE void row_pair(int pair, const float* weights, const float* values, float* products) {
    V sum[2][2][TILES] = {};
    if (pair >= 2 && pair < ROWS) {
      add_rows<POINT, 0, 3>(sum, weights, values + value_at(pair, 0));
    } else {
      if (pair < ROWS) add_rows<POINT, 0, 1>(sum, weights, values + value_at(pair, 0));
      if (pair >= 1 && pair <= ROWS) add_rows<POINT, 1, 2>(sum, weights, values + value_at(pair, 0));
      if (pair >= 2) add_rows<POINT, 2, 3>(sum, weights, values + value_at(pair, 0));
    }
    unroll<2>([&](auto odd_row) ARENA_INLINE_LAMBDA {
      if (odd_row && pair > ROWS) return;
      float* to = products + product_at(2 * pair + odd_row, 0, 0);
      unroll<even_tiles(POINT)>([&](auto t) ARENA_INLINE_LAMBDA { store(to + t * OUT, sum[odd_row][0][t]); });
      unroll<odd_tiles(POINT)>([&](auto t) ARENA_INLINE_LAMBDA { store(to + (TILES + t) * OUT, sum[odd_row][1][t]); });
    });
  }

  // values: of input row `pair`; adds rows pair - FROM down to pair - TO + 1.
  template <int POINT, int FROM, int TO>
  static ARENA_INLINE void add_rows(V (&sum)[2][2][TILES], const float* weights, const float* values) {
    for (int in = 0; in < IN; ++in)
      unroll<TO - FROM>([&](auto step) ARENA_INLINE_LAMBDA {
        constexpr int back = FROM + step;
        const float* row = values - value_at(back, 0) + in;
        unroll<(back == 2 ? 1 : 2)>([&](auto odd_row) ARENA_INLINE_LAMBDA {
          const float* weight = weights + ((2 * back + odd_row) * IN + in) * 2 * OUT;
          const V even = load_once(weight);
          unroll<even_tiles(POINT)>([&](auto t) ARENA_INLINE_LAMBDA { sum[odd_row][0][t] += even * row[t * IN]; });
          if constexpr (odd_tiles(POINT) > 0) {
            const V odd = load_once(weight + OUT);
            unroll<odd_tiles(POINT)>([&](auto t) ARENA_INLINE_LAMBDA { sum[odd_row][1][t] += odd * row[t * IN]; });
          }
        });
      });
  }

  // Input rows first ... first + COUNT - 1: output row 2 first + r reaches input row first + i by weight r - 2 i.
  template <int POINT, int COUNT>
  static ARENA_INLINE void rows_backward(int first, const float* weights, const float* products, float* values) {
    constexpr int tiles = even_tiles(POINT);
    V sum[COUNT][tiles] = {};
    unroll<odd_tiles(POINT) ? 2 : 1>([&](auto parity) ARENA_INLINE_LAMBDA {
      const float* from = products + product_at(2 * first, parity, 0);
      for (int out = 0; out < OUT; ++out) {
        V weight[5];
        unroll<5>([&](auto ky)
                      ARENA_INLINE_LAMBDA { weight[ky] = load(weights + ((ky * OUT + out) * 2 + parity) * IN); });
        unroll<2 * COUNT + 3>([&](auto r) ARENA_INLINE_LAMBDA {
          unroll<(parity ? odd_tiles(POINT) : tiles)>([&](auto t) ARENA_INLINE_LAMBDA {
            const float gradient = from[product_at(r, 0, t) + out];
            unroll<COUNT>([&](auto i) ARENA_INLINE_LAMBDA {
              if constexpr (r >= 2 * i && r - 2 * i < 5) sum[i][t] += weight[r - 2 * i] * gradient;
            });
          });
        });
      }
    });
    unroll<COUNT>([&](auto i) ARENA_INLINE_LAMBDA {
      unroll<tiles>([&](auto t) ARENA_INLINE_LAMBDA { store(values + value_at(first + i, t), sum[i][t]); });
    });
  }
};

}  // namespace arena::ARENA_ISA
