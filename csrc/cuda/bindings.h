#pragma once

#include <pybind11/pybind11.h>

namespace arena::cuda {

void bind(pybind11::module_ module);

}  // namespace arena::cuda
