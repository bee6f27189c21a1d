// Arrays from Python by DLPack: anything with `__dlpack__` (torch, NumPy) is a View, without a copy and without torch.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <type_traits>

#include "view.h"

namespace arena::dlpack {

// The structures of DLPack 0.8 (dmlc.github.io/dlpack), which all later versions can give.
struct Device {
  std::int32_t type, id;
};

struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t rank;
  DataType type;
  std::int64_t *shape, *strides;  // strides may be null: contiguous
  std::uint64_t byte_offset;
};

constexpr std::int32_t kDeviceCpu = 1, kDeviceCuda = 2;
constexpr std::uint8_t kInt = 0, kUnsigned = 1, kFloat = 2;

inline bool is_contiguous(const Tensor& tensor) {
  const bool empty = std::find(tensor.shape, tensor.shape + tensor.rank, 0) != tensor.shape + tensor.rank;
  if (empty || !tensor.strides) return true;
  std::int64_t expected = 1;
  for (int i = tensor.rank - 1; i >= 0; --i) {
    if (tensor.shape[i] > 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

// TypeError or ValueError where the array is none of T with RANK axes. The caller's object keeps the memory alive.
template <int RANK, class T>
View<RANK, T> view_of(pybind11::handle array) {
  namespace py = pybind11;
  // On CUDA: work is queued on the stream that the caller names, which is not for __dlpack__ to synchronise.
  const bool cuda = py::cast<py::tuple>(array.attr("__dlpack_device__")())[0].cast<std::int32_t>() == kDeviceCuda;
  const py::object dlpack = array.attr("__dlpack__");
  const py::capsule capsule = cuda ? dlpack(py::arg("stream") = -1) : dlpack();
  const Tensor& tensor = *capsule.get_pointer<Tensor>();  // the first member of DLManagedTensor, freed by the capsule
  constexpr auto code = std::is_floating_point_v<T> ? kFloat : std::is_unsigned_v<T> ? kUnsigned : kInt;
  constexpr DataType type{code, 8 * sizeof(T), 1};
  if (tensor.type.code != type.code || tensor.type.bits != type.bits || tensor.type.lanes != type.lanes)
    throw py::type_error(std::string("an array is not of ") +
                         (code == kFloat      ? "float"
                          : code == kUnsigned ? "uint"
                                              : "int") +
                         std::to_string(type.bits));
  if (tensor.rank != RANK)
    throw py::value_error("an array has " + std::to_string(tensor.rank) + " axes instead of " + std::to_string(RANK));
  if (!is_contiguous(tensor)) throw py::value_error("an array is not contiguous");
  if (tensor.device.type != kDeviceCpu && tensor.device.type != kDeviceCuda)
    throw py::value_error("an array is neither in CPU nor in CUDA memory");
  View<RANK, T> view{
      reinterpret_cast<T*>(static_cast<char*>(tensor.data) + tensor.byte_offset), {}, cuda ? tensor.device.id : kCpu};
  for (int i = 0; i < RANK; ++i) view.shape[i] = tensor.shape[i];
  return view;
}

}  // namespace arena::dlpack

template <int RANK, class T>
struct pybind11::detail::type_caster<arena::View<RANK, T>> {
  using View = arena::View<RANK, T>;
  PYBIND11_TYPE_CASTER(View, const_name("array"));

  bool load(handle source, bool) {
    if (!hasattr(source, "__dlpack__")) return false;
    value = arena::dlpack::view_of<RANK, T>(source);
    return true;
  }
};
