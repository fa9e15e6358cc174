// Arguments of graph transformer attention, edge_attention.
#pragma once

#include "linear.h"

namespace clof {

// N nodes, E edges, K heads of D features, C features of an edge.
struct EdgeAttentionArguments {
  Graph graph;
  Storage dtype;  // float32 or float64, of all tensors
  int64_t heads, head_width, edge_width;
  const void *query, *key, *value;  // (N, K D)
  const void* edge;                 // (E, C)
  const void* weight;               // (K D, C)
  const void* keep;                 // (E, K), or null for ones
  void* out;                        // (N, K D)

  const void* grad;                          // (N, K D)
  void *grad_query, *grad_key, *grad_value;  // (N, K D)
  void *grad_edge, *grad_weight;             // (E, C), (K D, C)

  int64_t largest_degree;     // of a receiver
  int64_t chunks;             // ranges of nodes, each worked on by one thread at a time
  const int64_t* first_node;  // (chunks + 1,)
  bool backward;              // the gradients are used
  void* shared;               // memory for what all threads read, and for sums of weights' gradients
  void* workers;              // memory for the tiles of each thread, one behind the other
};

// Bytes of the two pieces of memory; the second for each thread.
struct EdgeAttentionMemory {
  int64_t shared, worker;
};

// The stages, in the order in which they run. Between two of them all threads meet.
enum class EdgeAttentionStage : int {
  pack,          // each head: its part of the weight in the order in which products read it
  nodes,         // each chunk: keys and values with the heads side by side
  forward,       // each chunk: what its receivers gather
  clear_sums,    // each group of chunks: its sum of the weight's gradients
  backward,      // each chunk: gradients of its receivers' edges and queries
  add_sums,      // after each chunk: its weight's gradient to that of its group, in order
  senders,       // each chunk: gradients of its keys and values
  sum_weights,   // each slice: the weight's gradient, added over the groups
  grad_weights,  // once: from there to the tensor
};

// Slices that the weight's gradient is cut in.
constexpr int64_t kEdgeAttentionSlices = 32;

}  // namespace clof
