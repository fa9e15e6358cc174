// Arguments of the fused edge block, frame_message.
#pragma once

#include "linear.h"

namespace clof {

// The graph cut into ranges of receivers with about equal numbers of edges, each worked on by one thread at a time.
// Where they are cut depends on the graph alone, and so do the orders of all sums.
struct Chunks {
  int64_t count;
  const int64_t* first_node;  // (count + 1,)
  // No edge joins two chunks: one thread does all of a chunk, and may write to its senders' rows.
  bool closed;
  // The most nodes of a chunk where each thread has tables of its chunk's nodes alone, else 0: tables of all nodes.
  int64_t own_nodes;
};

// A direction of the inputs, of which null is 0, and the derivatives of the results in it.
struct FrameMessageTangents {
  const void *h, *pos;                  // as the inputs; these two are never null
  const void *edge_attr, *edge_weight;  // as the inputs
  void *message, *vector;               // as the results
};

struct FrameMessageArguments : FrameMessageProblem {
  Chunks chunks;
  BFloat16Unit unit;
  bool backward;  // the gradients are used
  // The gradients are not those of the backward pass, but their derivatives in the direction of the tangents.
  bool second;
  FrameMessageTangents tangents;
  void* shared;   // memory for what all threads read, and for sums of weights' gradients
  void* workers;  // memory for the tiles of each thread, one behind the other
};

// Bytes of the two pieces of memory; the second for each thread.
struct FrameMessageMemory {
  int64_t shared, worker;
};

// The stages, in the order in which they run. Between two of them all threads meet.
enum class FrameMessageStage : int {
  pack,           // once: weights in the order in which products read them
  closed,         // each chunk, if they are closed: in place of all stages from here to grad_nodes
  nodes,          // each chunk: what the first Linear makes of its nodes
  forward,        // each chunk: its messages and vectors
  backward,       // each chunk: a wave of its edges in reverse
  senders,        // each slice: what that wave's edges give to their senders
  add_edge_sums,  // after each wave of a chunk: its weights' gradients to those of its group of chunks, in order
  grad_nodes,     // each chunk: from the gradients of what `nodes` computed to those of h
  add_node_sums,  // after each chunk, as above
  add_sums,       // after each closed chunk: both
  sum_weights,    // each slice: weights' gradients, added over the groups
  grad_weights,   // once: from there to the tensors
};

// A piece of a stage: a chunk's or a slice's number, the thread that does it, the wave.
struct FrameMessageWork {
  int64_t item;
  int64_t worker;
  int64_t wave;
};

// Slices that the columns of senders and the weights' gradients are cut in.
constexpr int64_t kFrameMessageSlices = 32;

// Edges of a chunk in one wave of the backward pass, where chunks are not closed: what senders receive waits in memory
// until all chunks have done theirs. Closed chunks do all edges in one wave.
constexpr int64_t kFrameMessageWave = 384;

}  // namespace clof
