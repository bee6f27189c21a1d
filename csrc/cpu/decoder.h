// The decoder, forward and backward, for a group of latent points of one class.
//
// Activations are [y][x][channel] and a vector is a run of channels, so a single point keeps every lane busy: a result
// depends neither on the rest of the batch nor on how it was cut into groups.
#pragma once

#include "last.h"
#include "rows.h"
#include "weights.h"

namespace arena::ARENA_ISA {

constexpr int kImage = kPixels + 16;  // rows are stored by whole vectors: the last one runs over its end

template <int GROUP>
struct alignas(64) Decoder {
  using S2 = Second<GROUP>;

  float hidden1[GROUP][kSize1 * kSize1 * kChannels1];
  float values2[S2::values_size], products2[S2::products_size];
  float hidden2[GROUP][kSize2 * kSize2 * kChannels2];
  float values3[Third::values_size], products3[Third::products_size];
  float hidden3[kSize3 * kSize3 * kChannels3];  // of the point that was decoded last
  float row[kSize3 * kChannels3];
  float image[GROUP][kImage], gradient[kImage];

  // Layers 1 and 2 of a group: z [GROUP] pointers to kLatent floats.
  void start(const float* packed, const float* const* z) {
    for (int g = 0; g < GROUP; ++g) first(packed, z[g], g);
    S2::forward(packed + Packed::weights2, values2, products2);
    for (int g = 0; g < GROUP; ++g)
      for (int y = 0; y < kSize2; ++y)
        products_to_row<S2, 1, 0>(products2 + S2::product_at(y, 0, g), packed + Packed::bias2,
                                  hidden2[g] + y * kSize2 * kChannels2);
  }

  // Layers 3 and 4 of point g of the group, into image[g].
  void decode(const float* packed, int g) {
    for (int y = 0; y < kSize2; ++y)
      row_to_values<Third, 3, 1>(hidden2[g] + y * kSize2 * kChannels2, values3 + Third::value_at(y, 0));
    Third::forward(packed + Packed::weights3, values3, products3);
    for (int y = 0; y < kSize3; ++y)
      products_to_row<Third, 3, 1>(products3 + Third::product_at(y, 0, 0), packed + Packed::bias3,
                                   hidden3 + y * kSize3 * kChannels3);
    for (int y = 0; y < kSide; ++y)
      unroll<(kSide + W - 1) / W>([&](auto block) ARENA_INLINE_LAMBDA {
        decode_columns<block * W>(packed + Packed::weights4, packed[Packed::bias4], hidden3, y, image[g]);
      });
    for (int i = 0; i < kPixels; i += W) store(image[g] + i, sigmoid(load(image[g] + i)));
  }

  // From `gradient`, that of image[g], back to the products of layer 2; right after `decode` of the same point.
  void backward(const float* packed, int g) {
    for (int i = 0; i < kPixels; i += W) {
      const V pixel = load(image[g] + i);
      store(gradient + i, load(gradient + i) * pixel * (1.0f - pixel));
    }
    for (int y = 0; y < kSize3; ++y) {
      decode_columns_backward<0, 13>(packed + Packed::weights4, gradient, y, row);
      decode_columns_backward<13, 12>(packed + Packed::weights4, gradient, y, row);
      row_to_products<Third, 3, 1>(row, hidden3 + y * kSize3 * kChannels3, products3 + Third::product_at(y, 0, 0));
    }
    Third::backward(packed + Packed::backward3, products3, values3);
    for (int y = 0; y < kSize2; ++y) {
      values_to_row<Third, 3, 1>(values3 + Third::value_at(y, 0), row);
      row_to_products<S2, 1, 0>(row, hidden2[g] + y * kSize2 * kChannels2, products2 + S2::product_at(y, 0, g));
    }
  }

  // After `backward` of every point of the group: dz [GROUP][kLatent].
  void end(const float* packed, float (*dz)[kLatent]) {
    S2::backward(packed + Packed::backward2, products2, values2);
    for (int g = 0; g < GROUP; ++g) first_backward(packed + Packed::weights1, g, dz[g]);
  }

 private:
  void first(const float* packed, const float* z, int g) {
    for (int y = 0; y < kSize1; ++y) {
      float* columns = hidden1[g] + y * kSize1 * kChannels1;
      for (int x = 0; x < kSize1; ++x) {
        const float* weights = packed + Packed::weights1 + (y * kSize1 + x) * kLatent * kChannels1;
        for (int lane = 0; lane < kChannels1; lane += W) {
          V sum = load(packed + Packed::bias1 + lane);
          for (int i = 0; i < kLatent; ++i) sum += load(weights + i * kChannels1 + lane) * z[i];
          store(columns + x * kChannels1 + lane, elu(sum));
        }
      }
      row_to_values<S2, 1, 0>(columns, values2 + S2::value_at(y, g));
    }
  }

  void first_backward(const float* weights, int g, float* dz) {
    V sum[kLatent < W ? W : kLatent] = {};
    for (int y = 0; y < kSize1; ++y) {
      values_to_row<S2, 1, 0>(values2 + S2::value_at(y, g), row);
      for (int x = 0; x < kSize1; ++x)
        for (int lane = 0; lane < kChannels1; lane += W) {
          const int pixel = y * kSize1 + x;
          const V d = load(row + x * kChannels1 + lane) * elu_slope(load(hidden1[g] + pixel * kChannels1 + lane));
          const float* weight = weights + pixel * kLatent * kChannels1 + lane;
          unroll<kLatent>([&](auto i) ARENA_INLINE_LAMBDA { sum[i] += d * load(weight + i * kChannels1); });
        }
    }
    for (int i = 0; i < kLatent; i += W) {
      const V total = sums(sum + i);
      __builtin_memcpy(dz + i, &total, sizeof(float) * (kLatent < W ? kLatent : W));
    }
  }
};

}  // namespace arena::ARENA_ISA
