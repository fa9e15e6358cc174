// What a kernel is called with: plain pointers and sizes, the same for every backend. A pointer that a stage does not
// use is null. `..._tangent` are the directions of a second derivative; where one is null the direction is 0.
#pragma once

#include <cstdint>

#include "../math/edge_frame.h"
#include "../math/storage.h"

namespace clof {

// Where a quantity lives: on each edge's receiver, on its sender, or on the edge itself.
enum class Place : int { receiver, sender, edge };

// The tensors `edges` (4, E) and `offsets` (3, N + 1) of an EdgePlan.
struct Graph {
  const int32_t* receiver;
  const int32_t* sender;
  const int32_t* by_receiver;
  const int32_t* by_sender;
  const int32_t* receiver_start;
  const int32_t* sender_start;
  int64_t num_nodes;
  int64_t num_edges;
};

struct EdgeFrameArguments {
  Graph graph;
  FrameMode mode;
  Storage dtype;
  const void* pos;           // (N, 3)
  const void* pos_tangent;   // (N, 3)
  const void* grad_frame;    // (E, 3, 3)
  void* frame;               // (E, 3, 3), result on edges
  void* grad_pos;            // (N, 3), result on nodes, summed into
  const int32_t* crossings;  // (N + 1,), of the plan: where graphs of a batch meet
};

struct EdgeScalarsArguments {
  Graph graph;
  FrameMode mode;
  Storage dtype;
  const void* pos;           // (N, 3)
  const void* vel;           // (N, 3)
  const void* pos_tangent;   // (N, 3)
  const void* vel_tangent;   // (N, 3)
  const void* grad_scalars;  // (E, 8 or 14)
  void* scalars;             // (E, 8 or 14), result on edges
  void* grad_pos;            // (N, 3), result on nodes, summed into
  void* grad_vel;            // (N, 3), result on nodes, summed into
  const int32_t* crossings;  // (N + 1,), of the plan: where graphs of a batch meet
};

// The form B(s, T, F(x)) of csrc/math/tensor_form.h with K channels: project, aggregate and their derivatives.
struct TensorFormArguments {
  Graph graph;
  FrameMode mode;
  int order;
  Storage dtype;    // of positions and sums
  Storage storage;  // of s and T
  Place place;      // of T
  bool mean;        // T counts 1 / max(degree, 1) of its receiver
  int64_t channels;
  const void* s;  // (E, K, 3^order)
  const void* s_tangent;
  const void* t;  // (N or E, K, 3, ..., 3)
  const void* t_tangent;
  const void* pos;  // (N, 3)
  const void* pos_tangent;
  void* grad_s;              // (E, K, 3^order) in storage type
  void* grad_t;              // on edges in storage type; on nodes in the type of sums, summed into
  void* grad_pos;            // (N, 3), summed into
  const int32_t* crossings;  // (N + 1,), of the plan: where graphs of a batch meet
};

struct SegmentArguments {
  Storage storage;
  bool mean;
  int64_t segments, rows, width;
  const int32_t* index;  // (rows,) segment of each row
  const int32_t* perm;   // (rows,) row numbers sorted by segment
  const int32_t* start;  // (segments + 1,) where a segment starts in perm
  const void* from;      // reduce: (rows, width); gather: (segments, width)
  void* to;              // reduce: (segments, width); gather: (rows, width)
};

enum class Activation : int { silu, relu, leaky_relu, softplus, tanh, gelu };

// The tensors of one Linear layer, dense, in the storage type of features; bias may be null.
struct LinearArguments {
  const void* weight;  // (outputs, inputs)
  const void* bias;    // (outputs,)
  void* grad_weight;
  void* grad_bias;
};

// torch.set_float32_matmul_precision: how float32 numbers may be multiplied.
enum class MatmulPrecision : int { highest, high, medium };

constexpr int kMaxEdgeLinears = 3;
constexpr int kMaxCoordLinears = 2;

// The fused edge block; see clof_ext/ops/frame_message.py.
struct FrameMessageProblem {
  Graph graph;
  Storage dtype;    // of positions and of everything computed
  Storage storage;  // of features and weights
  MatmulPrecision precision;
  FrameMode mode;
  Activation activation;
  bool tanh, message_mean, vector_mean;
  double clamp;
  int64_t node_features;  // F
  int64_t edge_features;  // D
  int64_t hidden;         // H, of messages
  int64_t first;          // of what the first Linear of edge_mlp makes; H if it is the only one
  int64_t coord_hidden;   // of what the last Linear of coord_mlp reads; H if it is the only one
  int num_edge_linears, num_coord_linears;
  int num_axes;  // 3 with the complete basis, 1 with the radial one
  LinearArguments edge_mlp[kMaxEdgeLinears];
  LinearArguments att_mlp;  // weight is null without attention
  LinearArguments coord_mlp[kMaxCoordLinears];
  const void* h;             // (N, F)
  const void* pos;           // (N, 3)
  const void* edge_attr;     // (E, D) or null
  const void* edge_weight;   // (E,) or null
  void* message;             // (N, H), result
  void* vector;              // (N, 3), result
  const void* grad_message;  // these and what follows: of the backward pass alone
  const void* grad_vector;
  void* grad_h;
  void* grad_pos;
  void* grad_edge_attr;    // null without edge_attr
  void* grad_edge_weight;  // null without edge_weight
};

constexpr int kMaxMlpInputs = 4;
constexpr int kMaxMlpLinears = 4;

// A multilayer perceptron of rows; see clof_ext/ops/mlp.py.
struct MlpProblem {
  Storage dtype;    // of everything computed
  Storage storage;  // of the tensors
  MatmulPrecision precision;
  Activation activation;
  bool activate_last;
  int num_inputs, num_linears;
  int64_t rows;
  int64_t input_columns[kMaxMlpInputs];  // of the tensors that stand beside each other in a row
  int64_t columns[kMaxMlpLinears + 1];   // of the whole input, and of what each Linear makes
  const void* inputs[kMaxMlpInputs];     // (rows, input_columns)
  LinearArguments linears[kMaxMlpLinears];
  void* out;             // (rows, columns of the last), result
  bool input_gradients;  // this and what follows: of the backward pass alone
  const void* grad_out;
  void* grad_inputs[kMaxMlpInputs];
};

// LayerNorm(x + times h) of rows; see clof_ext/ops/add_layer_norm.py.
struct AddLayerNormProblem {
  Storage x_storage, h_storage;
  Storage storage;  // of weight, bias and the result
  int64_t rows, width;
  double times, eps;
  const void* x;       // (rows, width)
  const void* h;       // (rows, width)
  const void* weight;  // (width,)
  const void* bias;    // (width,)
  void* out;           // (rows, width), result
  const void* grad;    // these and what follows: of the backward pass alone
  void* grad_x;
  void* grad_h;  // null where not wanted
  void* grad_weight;
  void* grad_bias;
};

}  // namespace clof
