// arena._native.cuda: the operators over raw device addresses, queued on a stream.
#include "bindings.h"

#include "operators.h"

namespace py = pybind11;

namespace arena::cuda {
namespace {

using Address = std::uintptr_t;

template <class T = float>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

void bind(py::module_ m) {
  using Released = py::call_guard<py::gil_scoped_release>;
  m.doc() = "The operators on CUDA memory: device, stream, addresses and sizes in, nothing out.";
  m.def("devices", &devices, "GPUs that the driver shows; 0 without a driver.");
  m.def("architectures", &architectures, "What this build holds code for.");
  m.def("supports", &supports, py::arg("device"), "Whether the kernels run on this GPU.");
  m.def("packed_size", &packed_size, "Floats of one class's weights in the layout of these kernels.");
  m.def("sweep_lists", &sweep_lists, py::arg("device"), py::arg("classes"), py::arg("points"),
        "`keys` of a sweep is int64 [this, images, classes, k].");

  m.def("pack", [](Address folded, Address packed, std::int64_t classes) {
    pack(at(folded), at(packed), classes);
  }, "On the host.", Released());

  m.def("decode", [](int device, Address stream, Address packed, Address z, Address image, std::int64_t classes,
                     std::int64_t points, std::ptrdiff_t z_class, std::ptrdiff_t z_point, std::ptrdiff_t image_class,
                     std::ptrdiff_t image_point) {
    decode({device, stream}, at(packed), at(z), at(image), classes, points, {z_class, z_point},
           {image_class, image_point});
  }, Released());

  m.def("decode_back", [](int device, Address stream, Address packed, Address z, Address gradient, Address dz,
                          std::int64_t images, std::int64_t classes) {
    decode_back({device, stream}, at(packed), at(z), at(gradient), at(dz), {images, classes, 0});
  }, Released());

  m.def("sweep", [](int device, Address stream, Address packed, Address latents, Address columns, Address keys,
                    Address score, Address index, std::int64_t images, std::int64_t classes, std::int64_t points,
                    int k) {
    sweep({device, stream}, at(packed), at(latents), at(columns), at<std::uint64_t>(keys), at(score),
          at<std::int64_t>(index), {images, classes, points}, k);
  }, Released());

  m.def("score_bank", [](int device, Address stream, Address bank, Address latents, Address columns, Address keys,
                         Address score, Address index, std::int64_t images, std::int64_t classes, std::int64_t points,
                         int k) {
    score_bank({device, stream}, at(bank), at(latents), at(columns), at<std::uint64_t>(keys), at(score),
               at<std::int64_t>(index), {images, classes, points}, k);
  }, Released());

  m.def("descend", [](int device, Address stream, Address packed, Address z0, Address x, Address score, Address z,
                      Address reconstruction, std::int64_t images, std::int64_t classes, int steps, float step_size,
                      float radius) {
    descend({device, stream}, at(packed), at(z0), at(x), at(score), at(z), at(reconstruction), {images, classes, 0},
            steps, step_size, radius);
  }, Released());
}

}  // namespace arena::cuda
