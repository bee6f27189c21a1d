// Arrays that somebody else owns, as the operators take them, and the check that their shapes belong together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>

#include "geometry.h"

namespace arena {

constexpr int kCpu = -1;

// A contiguous array: its address, the length of each axis, and the CUDA device that holds it or kCpu.
template <int RANK, class T = float>
struct View {
  T* data;
  std::int64_t shape[RANK];
  int device;
};

template <int RANK>
using ConstView = View<RANK, const float>;

// Axes by letter, as einsum names them: what bears the same letter has one length. L is kLatent, X kPixels, Y kCodes.
class Shapes {
 public:
  Shapes(bool on_cpu, std::initializer_list<std::pair<char, std::int64_t>> known) : device_(on_cpu ? kCpu : kUnknown) {
    for (std::int64_t& length : lengths_) length = kUnknown;
    length('L') = kLatent;
    length('X') = kPixels;
    length('Y') = kCodes;
    for (const auto& [letter, known_length] : known) length(letter) = known_length;
  }

  // std::invalid_argument unless `view` fits those before it: Shapes(...)("z", z, "BCL")("image", image, "BCX").
  template <int RANK, class T>
  Shapes& operator()(const char* name, const View<RANK, T>& view, const char (&axes)[RANK + 1]) {
    std::string found, expected;
    bool fits = true;
    for (int i = 0; i < RANK; ++i) {
      std::int64_t& known = length(axes[i]);
      if (known == kUnknown) known = view.shape[i];
      fits = fits && known == view.shape[i];
      found += (i ? ", " : "") + std::to_string(view.shape[i]);
      expected += (i ? ", " : "") + std::to_string(known);
    }
    if (!fits)
      throw std::invalid_argument(std::string(name) + " has shape [" + found + "] instead of [" + expected + "]");
    if (device_ == kUnknown) device_ = view.device;
    if (device_ != view.device) throw std::invalid_argument(std::string(name) + " is not on the device of the others");
    return *this;
  }

 private:
  static constexpr int kUnknown = -2;
  std::int64_t& length(char letter) { return lengths_[letter - 'A']; }

  std::int64_t lengths_[26];
  int device_;
};

// Rows of floats, one for each class and point (or image), so many floats apart.
template <class T>
struct ClassRows {
  T* data;
  std::ptrdiff_t class_stride, point_stride;
  ARENA_HOST_DEVICE ARENA_INLINE T* at(std::int64_t label, std::int64_t point) const {
    return data + label * class_stride + point * point_stride;
  }
};

template <class T>
ClassRows<T> points_by_class(const View<3, T>& array) {  // [points][classes][*]
  return {array.data, array.shape[2], array.shape[1] * array.shape[2]};
}

template <class T>
ClassRows<T> classes_by_point(const View<3, T>& array) {  // [classes][points][*]
  return {array.data, array.shape[1] * array.shape[2], array.shape[2]};
}

template <class T>
ClassRows<T> points_of_all_classes(const View<2, T>& array) {  // [points][*]
  return {array.data, 0, array.shape[1]};
}

}  // namespace arena
