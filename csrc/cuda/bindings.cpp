// arena._native.cuda: the operators of operators.h under their names, on CUDA arrays, queued on a stream.
#include "bindings.h"

#include "../dlpack.h"
#include "operators.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace arena::cuda {

void bind(py::module_ m) {
  using Released = py::call_guard<py::gil_scoped_release>;
  m.doc() = "The operators on CUDA memory, queued on a stream (the address of a cudaStream_t).";
  m.def("devices", &devices, "GPUs that the driver shows; 0 without a driver or with one that is too old.");
  m.def("error", &error, "Why there are none, in CUDA's words and with versions; else empty.");
  m.def("architectures", &architectures, "What this build holds code for.");
  m.def("supports", &supports, "device"_a, "Whether the kernels run on this GPU.");
  m.def("load", &load, "device"_a, "Load all kernels onto this GPU, which else the first launch of each does.");
  m.def("packed_size", &packed_size, "Floats of one class's weights in the layout of these kernels.");
  m.def("sweep_lists", &sweep_lists, "device"_a, "classes"_a, "points"_a,
        "`keys` of a sweep is int64 [this, images, classes, k].");

  m.def("pack", &pack, "folded"_a, "packed"_a, "On the host.", Released());
  m.def("decode", &decode, "stream"_a, "packed"_a, "z"_a, "image"_a, Released());
  m.def("decode_backward", &decode_backward, "stream"_a, "packed"_a, "z"_a, "gradient"_a, "dz"_a, Released());
  m.def("latent_bank", &latent_bank, "stream"_a, "packed"_a, "latents"_a, "bank"_a, Released());
  m.def("latent_sweep", &latent_sweep, "stream"_a, "packed"_a, "latents"_a, "columns"_a, "keys"_a, "score"_a, "index"_a,
        Released());
  m.def("bank_sweep", &bank_sweep, "stream"_a, "bank"_a, "latents"_a, "columns"_a, "keys"_a, "score"_a, "index"_a,
        Released());
  m.def("latent_descent", &latent_descent, "stream"_a, "packed"_a, "z0"_a, "x"_a, "settings"_a, "score"_a, "z"_a,
        "reconstruction"_a, Released());
}

}  // namespace arena::cuda
