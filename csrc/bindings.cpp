// arena._native: the operators over raw addresses. It knows nothing of torch; arena/kernels/ops.py checks every
// argument before it hands over an address.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "geometry.h"
#include "operators.h"
#ifdef ARENA_CUDA
#include "cuda/bindings.h"
#endif

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

template <class T = float>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  using Released = py::call_guard<py::gil_scoped_release>;
  m.doc() = "Latent sweep and latent descent on CPU memory, and in `cuda`, where built, on CUDA memory.";
  m.attr("FOLDED_SIZE") = arena::kFoldedSize;

  m.def("instruction_sets", &arena::instruction_sets, "Instruction sets that this CPU can run, best first.");
  m.def("instruction_set", &arena::instruction_set, "The instruction set in use.");
  m.def("set_instruction_set", &arena::set_instruction_set, py::arg("name"), "Use another; ValueError if unknown.");
  m.def("packed_size", &arena::packed_size, "Floats of one class's weights in the layout of the kernels.");

  m.def("pack", [](Address folded, Address packed, std::int64_t classes) {
    arena::pack(at(folded), at(packed), classes);
  }, Released());

  m.def("decode", [](Address packed, Address z, Address image, std::int64_t classes, std::int64_t points,
                     std::ptrdiff_t z_class, std::ptrdiff_t z_point, std::ptrdiff_t image_class,
                     std::ptrdiff_t image_point, int threads) {
    arena::decode(at(packed), at(z), at(image), classes, points, {z_class, z_point}, {image_class, image_point},
                  threads);
  }, Released());

  m.def("decode_back", [](Address packed, Address z, Address gradient, Address dz, std::int64_t images,
                          std::int64_t classes, int threads) {
    arena::decode_back(at(packed), at(z), at(gradient), at(dz), {images, classes, 0}, threads);
  }, Released());

  m.def("sweep", [](Address packed, Address latents, Address x, Address score, Address index, std::int64_t images,
                    std::int64_t classes, std::int64_t points, int k, int threads) {
    arena::sweep(at(packed), at(latents), at(x), at(score), at<std::int64_t>(index), {images, classes, points}, k,
                 threads);
  }, Released());

  m.def("score_bank", [](Address bank, Address latents, Address x, Address score, Address index, std::int64_t images,
                         std::int64_t classes, std::int64_t points, int k, int threads) {
    arena::score_bank(at(bank), at(latents), at(x), at(score), at<std::int64_t>(index), {images, classes, points}, k,
                      threads);
  }, Released());

  m.def("descend", [](Address packed, Address z0, Address x, Address score, Address z, Address reconstruction,
                      std::int64_t images, std::int64_t classes, int steps, float step_size, float radius,
                      int threads) {
    arena::descend(at(packed), at(z0), at(x), at(score), at(z), at(reconstruction), {images, classes, 0}, steps,
                   step_size, radius, threads);
  }, Released());

#ifdef ARENA_CUDA
  arena::cuda::bind(m.def_submodule("cuda"));
#endif
}
