// The simulation of Newtonian systems as a function of the Python module: it has no gradient and no other device.
#pragma once

#include <pybind11/pybind11.h>

namespace clof::host {

void bind_newton_simulate(pybind11::module_& module);

}  // namespace clof::host
