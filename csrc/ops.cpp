// Every operator's schema.
//
// N nodes, E edges, K channels, r order. pos (N, 3), vel (N, 3), edges (4, E) and offsets (3, N + 1) of an EdgePlan;
// tensor (N or E, K, 3, ..., 3), scalars (E, K, 3^r). See clof_ext/_register.py for the pattern of the three stages.
#include <torch/csrc/stable/library.h>

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
  // The weights' gradients have no cotangents here.
  library.def(
      "frame_message_double_backward(Tensor grad_grad_h, Tensor grad_grad_pos, Tensor? grad_grad_edge_attr, "
      "Tensor? grad_grad_edge_weight, Tensor grad_message, Tensor grad_vector, " CLOF_FRAME_MESSAGE_INPUTS
      ") -> (Tensor grad_grad_message, Tensor grad_grad_vector, Tensor grad_h, Tensor grad_pos, "
      "Tensor grad_edge_attr, Tensor grad_edge_weight, Tensor[] grad_weights)");
#undef CLOF_FRAME_MESSAGE_INPUTS

  // weights: weight and bias of each Linear. Without `input_gradients` the list of those is empty.
  library.def(
      "mlp(Tensor[] inputs, Tensor[] weights, str activation, bool activate_last, str precision=\"highest\") -> "
      "Tensor");
  // For what nothing records: the result is written to `out`, rows of a larger tensor.
  library.def(
      "mlp_into(Tensor(a!) out, Tensor[] inputs, Tensor[] weights, str activation, bool activate_last, "
      "str precision=\"highest\") -> ()");
  library.def(
      "mlp_backward(Tensor grad, Tensor[] inputs, Tensor[] weights, str activation, bool activate_last, "
      "bool input_gradients, str precision=\"highest\") -> (Tensor[] grad_inputs, Tensor[] grad_weights)");
  // The weights' gradients have no cotangents here.
  library.def(
      "mlp_double_backward(Tensor[] grad_grad_inputs, Tensor grad, Tensor[] inputs, Tensor[] weights, str activation, "
      "bool activate_last, str precision=\"highest\") -> (Tensor grad_grad, Tensor[] grad_inputs, "
      "Tensor[] grad_weights)");

  // The result has the dtype of weight. Without `h_gradient` that of h is empty.
  library.def("add_layer_norm(Tensor x, Tensor h, Tensor weight, Tensor bias, float times, float eps) -> Tensor");
  library.def(
      "add_layer_norm_backward(Tensor grad, Tensor x, Tensor h, Tensor weight, float times, float eps, "
      "bool h_gradient) -> (Tensor grad_x, Tensor grad_h, Tensor grad_weight, Tensor grad_bias)");

  // For what nothing records or traces: results share memory.
  library.def("cast_all(Tensor[] tensors, ScalarType dtype) -> Tensor[]");

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

  // Frames (S, T, n, 3) of S systems of n particles, T = (num_steps - 1) / sample_every; coupling (S, n, n).
  library.def(
      "newton_simulate(Tensor pos, Tensor vel, Tensor charges, Tensor coupling, bool inverse_square, float[] gravity, "
      "float[] magnetic_field, float softening, float force_limit, float time_step, int num_steps, int sample_every) "
      "-> (Tensor pos_frames, Tensor vel_frames)");
}
