// Every operator's schema, and the Python module, which holds what is no operator.
//
// N nodes, E edges, K channels, r order. pos (N, 3), vel (N, 3), edges (4, E) and offsets (3, N + 1) of an EdgePlan;
// tensor (N or E, K, 3, ..., 3), scalars (E, K, 3^r). See clof_ext/_register.py for the pattern of the three stages.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/stable/library.h>

#include "build_info.h"
#include "cpu/dispatch.h"
#include "ops/newton_simulate.h"
#ifdef CLOF_CUDA
#include "cuda/frame_message.h"
#include "cuda/mlp.h"
#endif

STABLE_TORCH_LIBRARY(clof_ext, library) {
  library.def("prepare_graph(Tensor edge_index, SymInt num_nodes, str name) -> (Tensor edges, Tensor offsets)");

  library.def("edge_frame(Tensor pos, Tensor edges, Tensor offsets, str mode) -> Tensor");
  library.def("edge_frame_backward(Tensor grad_frame, Tensor pos, Tensor edges, Tensor offsets, str mode) -> Tensor");
  library.def(
      "edge_frame_double_backward(Tensor grad_grad_pos, Tensor grad_frame, Tensor pos, Tensor edges, Tensor offsets, "
      "str mode) -> (Tensor grad_grad_frame, Tensor grad_pos)");

  library.def("edge_scalars(Tensor pos, Tensor? vel, Tensor edges, Tensor offsets, str mode) -> Tensor");
  library.def(
      "edge_scalars_backward(Tensor grad_scalars, Tensor pos, Tensor? vel, Tensor edges, Tensor offsets, str mode) "
      "-> (Tensor grad_pos, Tensor grad_vel)");
  library.def(
      "edge_scalars_double_backward(Tensor grad_grad_pos, Tensor? grad_grad_vel, Tensor grad_scalars, Tensor pos, "
      "Tensor? vel, Tensor edges, Tensor offsets, str mode) "
      "-> (Tensor grad_grad_scalars, Tensor grad_pos, Tensor grad_vel)");

  library.def(
      "project(Tensor tensor, Tensor pos, Tensor edges, Tensor offsets, int order, str source, str mode) -> Tensor");
  library.def(
      "project_backward(Tensor grad_scalars, Tensor tensor, Tensor pos, Tensor edges, Tensor offsets, int order, "
      "str source, str mode) -> (Tensor grad_tensor, Tensor grad_pos)");
  library.def(
      "project_double_backward(Tensor grad_grad_tensor, Tensor grad_grad_pos, Tensor grad_scalars, Tensor tensor, "
      "Tensor pos, Tensor edges, Tensor offsets, int order, str source, str mode) "
      "-> (Tensor grad_grad_scalars, Tensor grad_tensor, Tensor grad_pos)");

  library.def(
      "aggregate(Tensor scalars, Tensor pos, Tensor edges, Tensor offsets, int order, str reduce, str mode) -> Tensor");
  library.def(
      "aggregate_backward(Tensor grad_tensor, Tensor scalars, Tensor pos, Tensor edges, Tensor offsets, int order, "
      "str reduce, str mode) -> (Tensor grad_scalars, Tensor grad_pos)");
  library.def(
      "aggregate_double_backward(Tensor grad_grad_scalars, Tensor grad_grad_pos, Tensor grad_tensor, Tensor scalars, "
      "Tensor pos, Tensor edges, Tensor offsets, int order, str reduce, str mode) "
      "-> (Tensor grad_grad_tensor, Tensor grad_scalars, Tensor grad_pos)");

  // weights: see clof_ext/reference/frame_message.py. Gradients of inputs that are None are empty.
#define CLOF_FRAME_MESSAGE_INPUTS                                                                                  \
  "Tensor h, Tensor pos, Tensor? edge_attr, Tensor? edge_weight, Tensor[] weights, Tensor edges, Tensor offsets, " \
  "int edge_depth, int coord_depth, bool attention, str basis, str mode, str activation, bool tanh, float clamp, " \
  "str message_reduce, str vector_reduce, str precision=\"highest\""
  library.def("frame_message(" CLOF_FRAME_MESSAGE_INPUTS ") -> (Tensor message, Tensor vector)");
  library.def("frame_message_backward(Tensor grad_message, Tensor grad_vector, " CLOF_FRAME_MESSAGE_INPUTS
              ") -> (Tensor grad_h, Tensor grad_pos, Tensor grad_edge_attr, Tensor grad_edge_weight, "
              "Tensor[] grad_weights)");
#undef CLOF_FRAME_MESSAGE_INPUTS

  // weights: weight and bias of each Linear. Without `input_gradients` the list of those is empty.
  library.def(
      "mlp(Tensor[] inputs, Tensor[] weights, str activation, bool activate_last, str precision=\"highest\") -> "
      "Tensor");
  library.def(
      "mlp_backward(Tensor grad, Tensor[] inputs, Tensor[] weights, str activation, bool activate_last, "
      "bool input_gradients, str precision=\"highest\") -> (Tensor[] grad_inputs, Tensor[] grad_weights)");

  // keep: (E, heads) factors of the weights, constants. Gradients of all inputs before it.
#define CLOF_EDGE_ATTENTION_INPUTS                                                                                   \
  "Tensor query, Tensor key, Tensor value, Tensor edge, Tensor weight, Tensor? keep, Tensor edges, Tensor offsets, " \
  "int heads"
  library.def("edge_attention(" CLOF_EDGE_ATTENTION_INPUTS ") -> Tensor");
  library.def("edge_attention_backward(Tensor grad, " CLOF_EDGE_ATTENTION_INPUTS
              ") -> (Tensor grad_query, Tensor grad_key, Tensor grad_value, Tensor grad_edge, Tensor grad_weight)");
#undef CLOF_EDGE_ATTENTION_INPUTS

  // Without `share_gradient` that of share is empty.
  library.def("table_sum(Tensor table, Tensor first, Tensor share, Tensor? base, bool relu) -> Tensor");
  library.def(
      "table_sum_backward(Tensor grad, Tensor table, Tensor first, Tensor share, bool share_gradient) -> "
      "(Tensor grad_table, Tensor grad_share)");

  library.def("segment_reduce(Tensor values, Tensor index, Tensor perm, Tensor offsets, str reduce) -> Tensor");
  library.def("segment_gather(Tensor grad, Tensor index, Tensor perm, Tensor offsets, str reduce) -> Tensor");
}

namespace {

// How this binary was built, for show_config().
pybind11::dict build_info() {
  pybind11::dict info;
  info["version"] = CLOF_VERSION;
  info["compiler"] = CLOF_COMPILER;
#ifdef CLOF_CUDA
  info["cuda"] = CLOF_CUDA_VERSION;
  info["cuda_architectures"] = CLOF_CUDA_ARCHITECTURES;
#else
  info["cuda"] = pybind11::none();
  info["cuda_architectures"] = pybind11::none();
#endif
  info["torch_target"] = CLOF_TORCH_TARGET;
  return info;
}

// What multiplies bfloat16 numbers with the instruction set in use, for show_config().
std::string bfloat16_unit() {
  switch (clof::cpu::kernels().unit) {
    case clof::BFloat16Unit::none: return "none";
    case clof::BFloat16Unit::pairs: return "pairs";
    case clof::BFloat16Unit::tiles: return "tiles";
    case clof::BFloat16Unit::emulated_tiles: return "emulated tiles";
  }
  return "none";
}

#ifdef CLOF_CUDA
clof::Storage storage_of(const std::string& dtype) {
  using clof::Storage;
  return dtype == "float32"    ? Storage::float32
         : dtype == "bfloat16" ? Storage::bfloat16
         : dtype == "float16"  ? Storage::float16
                               : Storage::float64;
}

std::optional<std::string> in_words(const char* reason) {
  return reason == nullptr ? std::nullopt : std::optional<std::string>(reason);
}
#endif

// Why the CUDA kernels cannot run a frame_message of these sizes on the current device, or None.
std::optional<std::string> frame_message_limit(const std::string& dtype, int64_t hidden, int64_t edge_features,
                                               bool backward) {
#ifdef CLOF_CUDA
  return in_words(clof::cuda::frame_message_limit(storage_of(dtype), hidden, edge_features, backward));
#else
  return "the extension was built without nvcc";
#endif
}

// The same of an mlp, given the columns of its inputs and of what each Linear makes.
std::optional<std::string> mlp_limit(const std::string& dtype, const std::vector<int64_t>& inputs,
                                     const std::vector<int64_t>& outputs, bool backward) {
#ifdef CLOF_CUDA
  return in_words(clof::cuda::mlp_limit(storage_of(dtype), inputs, outputs, backward));
#else
  return "the extension was built without nvcc";
#endif
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.def("build_info", &build_info, "How this binary was built.");
  module.def("instruction_sets", &clof::cpu::available, "Instruction sets built in that this processor runs.");
  module.def(
      "instruction_set", [] { return std::string(clof::cpu::kernels().instruction_set); },
      "The instruction set in use.");
  module.def("emulated_instruction_sets", &clof::cpu::emulated,
             "Instruction sets that software runs in part, for tests.");
  module.def("bfloat16_unit", &bfloat16_unit,
             "What multiplies bfloat16 numbers in frame_message: 'none', 'pairs', 'tiles' or 'emulated tiles'.");
  module.def("frame_message_limit", &frame_message_limit, pybind11::arg("dtype"), pybind11::arg("hidden"),
             pybind11::arg("edge_features"), pybind11::arg("backward"),
             "Why the CUDA kernels cannot run a frame_message of these sizes on the current device, or None.");
  module.def("mlp_limit", &mlp_limit, pybind11::arg("dtype"), pybind11::arg("inputs"), pybind11::arg("outputs"),
             pybind11::arg("backward"),
             "Why the CUDA kernels cannot run an mlp of these columns on the current device, or None.");
  module.def("select_instruction_set", &clof::cpu::select, pybind11::arg("name"),
             "Use another instruction set, for tests and measurements; False if it is not available.");
  clof::host::bind_newton_simulate(module);
}
