// Arguments of the multilayer perceptron of rows, mlp.
#pragma once

#include "linear.h"

namespace clof {

struct MlpArguments : MlpProblem {
  int64_t chunks;  // ranges of rows, each worked on by one thread at a time
  BFloat16Unit unit;
  bool backward;
  // The gradients are not those of the backward pass, but their derivatives in the direction of the inputs' tangents;
  // `out` takes that of the result.
  bool second;
  const void* input_tangents[kMaxMlpInputs];
  void* shared;   // memory for what all threads read, and for sums of weights' gradients
  void* workers;  // memory for the tiles of each thread, one behind the other
};

// Bytes of the two pieces of memory; the second for each thread.
struct MlpMemory {
  int64_t shared, worker;
};

// The stages, in the order in which they run. Between two of them all threads meet.
enum class MlpStage : int {
  pack,          // once: weights in the order in which products read them
  forward,       // each chunk
  clear_sums,    // each group of chunks: its sums of weights' gradients
  backward,      // each chunk: computed again and run in reverse
  add_sums,      // after each chunk: its weights' gradients to those of its group, in order
  sum_weights,   // each slice: weights' gradients, added over the groups
  grad_weights,  // once: from there to the tensors
};

// Slices that the weights' gradients are cut in.
constexpr int64_t kMlpSlices = 32;

}  // namespace clof
