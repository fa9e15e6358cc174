// Where a block of the perceptron's kernels has its weights in shared memory, and its sums of weights' gradients in the
// workspace. Host and device.
#pragma once

#include "../../functor/arguments.h"

namespace clof::cuda {

constexpr int kMlpBlockRows = 128;  // of the backward pass: 16 of each warp
constexpr int kLineBytes = 128;     // of inputs whose weights lie together
// Gradients of inputs are computed for so many columns at a time.
constexpr int kInputGradientColumns = 32;

inline int64_t whole(int64_t size, int64_t unit) { return (size + unit - 1) / unit; }

// Offsets in bytes of the block's shared memory.
struct MlpLayout {
  // Weights of the first Linear for each input: parts of kLineBytes of inputs, each with a row for every result.
  int64_t inputs[kMaxMlpInputs];
  int64_t layers[kMaxMlpLinears];  // of the further Linears; the first has no place
  int64_t biases;                  // a padded float32 vector of each Linear
  // Of the backward pass alone. A row of these is an input's.
  int64_t inputs_transposed[kMaxMlpInputs], layers_transposed[kMaxMlpLinears];
  int64_t slots;  // gradients, then what went into the activation of each Linear but the last
  int64_t bytes;
};

struct MlpPass {
  int width;         // padded results of every Linear
  int number_bytes;  // of the tensors' numbers
  bool backward;
};

inline int64_t slot_bytes(int width) { return int64_t(kMlpBlockRows) * width * int64_t(sizeof(float)); }

// The input of the first Linear takes a slot too, when the gradients of the others are done.
inline int num_slots(int linears) { return linears > 1 ? linears : 2; }

inline MlpLayout mlp_layout(const MlpProblem& p, const MlpPass& pass) {
  MlpLayout layout = {};
  const auto add = [&](int64_t bytes) {
    const int64_t place = layout.bytes;
    layout.bytes += bytes;
    return place;
  };
  const int64_t width = pass.width, row_bytes = width * pass.number_bytes;
  for (int k = 0; k < p.num_inputs; ++k) {
    layout.inputs[k] = add(whole(p.input_columns[k] * pass.number_bytes, kLineBytes) * kLineBytes * width);
  }
  for (int k = 1; k < p.num_linears; ++k) layout.layers[k] = add(width * row_bytes);
  layout.biases = add(p.num_linears * width * int64_t(sizeof(float)));
  if (!pass.backward) return layout;
  for (int k = 0; p.input_gradients && k < p.num_inputs; ++k) {
    layout.inputs_transposed[k] =
        add(whole(p.input_columns[k], kInputGradientColumns) * kInputGradientColumns * row_bytes);
  }
  for (int k = 1; k < p.num_linears; ++k) layout.layers_transposed[k] = add(width * row_bytes);
  layout.slots = add(num_slots(p.num_linears) * slot_bytes(pass.width));
  return layout;
}

// Counted in numbers; a row of a matrix is a result's.
struct MlpSumPlaces {
  int64_t inputs[kMaxMlpInputs];  // columns of the first matrix
  int64_t first_columns;          // of a row of the first matrix
  int64_t layers[kMaxMlpLinears];
  int64_t biases;
  int64_t total;
};

inline MlpSumPlaces mlp_sum_places(const MlpProblem& p, int width) {
  constexpr int kPair = 2;  // sums are written two at a time
  MlpSumPlaces places = {};
  for (int k = 0; k < p.num_inputs; ++k) {
    places.inputs[k] = places.first_columns;
    places.first_columns += whole(p.input_columns[k], kPair) * kPair;
  }
  places.total = width * places.first_columns;
  for (int k = 1; k < p.num_linears; ++k) {
    places.layers[k] = places.total;
    places.total += int64_t(width) * width;
  }
  places.biases = places.total;
  places.total += int64_t(p.num_linears) * width;
  return places;
}

}  // namespace clof::cuda
