// arena._native: the operators of operators.h under their names, on any arrays that speak DLPack.
#include "dlpack.h"
#include "operators.h"
#ifdef ARENA_CUDA
#include "cuda/bindings.h"
#endif

namespace py = pybind11;
using namespace pybind11::literals;

PYBIND11_MODULE(_native, m) {
  using Released = py::call_guard<py::gil_scoped_release>;
  m.doc() = "Latent sweep and latent descent on CPU memory, and in `cuda`, where built, on CUDA memory.";
  m.attr("FOLDED_SIZE") = arena::kFoldedSize;
  m.attr("CODES") = arena::kCodes;

  m.def("instruction_sets", &arena::instruction_sets, "Instruction sets that this CPU can run, best first.");
  m.def("instruction_set", &arena::instruction_set, "The instruction set in use.");
  m.def("set_instruction_set", &arena::set_instruction_set, "name"_a, "Use another; ValueError if unknown.");
  m.def("packed_size", &arena::packed_size, "Floats of one class's weights in the layout of the kernels.");

  py::class_<arena::Descent>(m, "Descent", "Steps of Adam (the last evaluates only), their size, the ball's radius.")
      .def(py::init<int, float, float>(), "steps"_a, "step_size"_a, "radius"_a);

  m.def("pack", &arena::pack, "folded"_a, "packed"_a, Released());
  m.def("decode", &arena::decode, "packed"_a, "z"_a, "image"_a, "threads"_a, Released());
  m.def("decode_backward", &arena::decode_backward, "packed"_a, "z"_a, "gradient"_a, "dz"_a, "threads"_a, Released());
  m.def("latent_bank", &arena::latent_bank, "packed"_a, "latents"_a, "bank"_a, "threads"_a, Released());
  m.def("latent_sweep", &arena::latent_sweep, "packed"_a, "latents"_a, "x"_a, "score"_a, "index"_a, "threads"_a,
        Released());
  m.def("bank_sweep", &arena::bank_sweep, "bank"_a, "latents"_a, "x"_a, "score"_a, "index"_a, "threads"_a, Released());
  m.def("screen_bank", &arena::screen_bank, "bank"_a, "codes"_a, "error"_a, "threads"_a, Released());
  m.def("screened_sweep", &arena::screened_sweep, "bank"_a, "codes"_a, "error"_a, "latents"_a, "x"_a, "score"_a,
        "index"_a, "threads"_a, "Returns how many scores were computed in float32.", Released());
  m.def("latent_descent", &arena::latent_descent, "packed"_a, "z0"_a, "x"_a, "settings"_a, "score"_a, "z"_a,
        "reconstruction"_a, "threads"_a, Released());

#ifdef ARENA_CUDA
  arena::cuda::bind(m.def_submodule("cuda"));
#endif
}
