// The Python module: what is no operator, for Python. The kernels lie in libclof_ext.so beside it, which it loads and
// which calls nothing of Python, so that programs without Python use the same file.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "interface.h"

namespace {

pybind11::dict build_info() {
  const clof::BuildInfo info = clof::build_info();
  pybind11::dict texts;
  texts["version"] = info.version;
  texts["compiler"] = info.compiler;
  texts["torch_target"] = info.torch_target;
  texts["cuda"] = info.cuda;
  texts["cuda_architectures"] = info.cuda_architectures;
  return texts;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  using pybind11::arg;
  module.def("build_info", &build_info,
             "version, compiler, torch_target, cuda and cuda_architectures; the last two None without nvcc.");
  module.def("instruction_sets", &clof::instruction_sets,
             "Instruction sets built in that this processor runs, the best last.");
  module.def("emulated_instruction_sets", &clof::emulated_instruction_sets,
             "Instruction sets that software runs in part, for tests.");
  module.def("instruction_set", &clof::instruction_set, "The instruction set in use.");
  module.def("select_instruction_set", &clof::select_instruction_set, arg("name"),
             "Use another instruction set, for tests and measurements; False if it is not available.");
  module.def("bfloat16_unit", &clof::bfloat16_unit,
             "What multiplies bfloat16 numbers in frame_message: 'none', 'pairs', 'tiles' or 'emulated tiles'.");
  module.def("release_memory", &clof::release_memory,
             "Give back what the calling thread keeps for its next call on the CPU, at most 16 MiB.");
  module.def("frame_message_limit", &clof::frame_message_limit, arg("dtype"), arg("hidden"), arg("edge_features"),
             arg("backward"),
             "Why the CUDA kernels cannot run a frame_message of these sizes on the current device, or None.");
  module.def("mlp_limit", &clof::mlp_limit, arg("dtype"), arg("inputs"), arg("outputs"), arg("backward"),
             "Why the CUDA kernels cannot run an mlp of these columns on the current device, or None.");
  module.def("add_layer_norm_limit", &clof::add_layer_norm_limit, arg("x"), arg("h"), arg("weight"), arg("width"),
             "Why the CUDA kernels cannot run an add_layer_norm of these dtypes and so many columns, or None.");
}
