// The best points of an image as sorted lists of 64-bit keys: a key orders as `better` does (kernels.h), so lists of
// different blocks can be merged in any order.
#pragma once

#include <cstring>

#include "thread_block.h"

namespace arena::cuda {

using Key = std::uint64_t;
constexpr Key kNothing = ~Key{0};  // comes after every point

// NaN first, then scores in their order, equal scores by index. Scores are sums of squares: there is no -0.
ARENA_BODY Key make_key(float score, std::uint32_t index) {
  std::uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  const std::uint32_t ordered = score != score ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
  return Key{ordered} << 32 | index;
}

ARENA_BODY float score_of(Key key) {
  const std::uint32_t ordered = static_cast<std::uint32_t>(key >> 32);
  const std::uint32_t bits = ordered == 0 ? 0x7fc00000u : ordered >> 31 ? ordered & 0x7fffffffu : ~ordered;
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

ARENA_BODY std::int64_t index_of(Key key) { return static_cast<std::int64_t>(key & 0xffffffffu); }

// The k best so far, best first, `stride` keys apart.
struct BestList {
  Key* key;
  std::int64_t stride;
  int k;

  ARENA_BODY void insert(Key candidate) const {
    int at = k - 1;
    if (candidate >= key[at * stride]) return;
    for (; at > 0 && candidate < key[(at - 1) * stride]; --at) key[at * stride] = key[(at - 1) * stride];
    key[at * stride] = candidate;
  }
};

// Lists of all blocks, images and classes: keys [block][class][k][image].
struct BestLists {
  Key* keys;
  std::int64_t images, classes;
  int k;

  ARENA_BODY BestList at(std::int64_t block, std::int64_t label, std::int64_t image) const {
    return {keys + (block * classes + label) * k * images + image, images, k};
  }
};

// Joins the lists of `blocks` blocks -> score, index [images][classes][k].
struct MergeBest {
  BestLists lists;
  int blocks;
  float* score;
  std::int64_t* index;

  static constexpr int shared = 0;

  template <class ThreadBlock>
  ARENA_BODY void operator()(const ThreadBlock& block, float*, BlockIndex id) const {
    const std::int64_t first = static_cast<std::int64_t>(id.block) * kThreads;
    block.each(static_cast<int>(smaller(kThreads, lists.images - first)), [&](int i) {
      const std::int64_t image = first + i;
      const BestList merged = lists.at(0, id.label, image);
      for (int other = 1; other < blocks; ++other) {
        const BestList list = lists.at(other, id.label, image);
        for (int j = 0; j < lists.k; ++j) merged.insert(list.key[j * list.stride]);
      }
      for (int j = 0; j < lists.k; ++j) {
        const std::int64_t to = (image * lists.classes + id.label) * lists.k + j;
        score[to] = score_of(merged.key[j * merged.stride]);
        index[to] = index_of(merged.key[j * merged.stride]);
      }
    });
  }
};

}  // namespace arena::cuda
