// The pieces of the edge block that the perceptron is built of, for one tile of 16 rows, and its weights in shared
// memory.
#pragma once

#include "activation.cuh"
#include "mlp_layout.h"
#include "product.cuh"

namespace clof::cuda {

// One tile, where several at a time are asked for.
template <class T> CLOF_DEVICE T (&one(T& tile))[1] { return reinterpret_cast<T(&)[1]>(tile); }
template <class T> CLOF_DEVICE const T (&one(const T& tile))[1] { return reinterpret_cast<const T(&)[1]>(tile); }

// Inputs whose weights lie together, see MlpLayout.
template <class Kind> constexpr int kLine = kLineBytes / int(sizeof(typename Kind::Stored));

// Rows of a matrix whose products with gradients are made for kInputGradientColumns at a time.
CLOF_DEVICE int whole_parts(int inputs) {
  return (inputs + kInputGradientColumns - 1) / kInputGradientColumns * kInputGradientColumns;
}

// Columns of weights (results, inputs) whose rows are `leading` numbers apart.
struct WeightColumns {
  const void* weight;
  int64_t leading, first;
  int results, inputs;
};

template <class Kind> CLOF_DEVICE float weight_at(const WeightColumns& w, int result, int input) {
  if (result >= w.results || input >= w.inputs) return 0.0f;
  const float x = load_number<Kind>(w.weight, result * w.leading + w.first + input);
  if constexpr (Kind::kHalf) return x;
  else return Kind::prepared(x);
}

// To matrices of Width rows and Columns columns, one behind the other.
template <class Kind, int Width, int Columns>
CLOF_DEVICE void pack_weights(typename Kind::Stored* to, const WeightColumns& w) {
  constexpr int kGroups = Columns / Kind::kGroup;
  const int count = (w.inputs + Columns - 1) / Columns * Width * kGroups;
#pragma unroll 4
  for (int k = thread_index(); k < count; k += num_threads()) {
    const int column = k % kGroups * Kind::kGroup, row = k / kGroups % Width, part = k / (kGroups * Width);
    float values[Kind::kGroup];
#pragma unroll
    for (int e = 0; e < Kind::kGroup; ++e) values[e] = weight_at<Kind>(w, row, part * Columns + column + e);
    auto* line = to + (part * Width + row) * Columns;
    *reinterpret_cast<uint4*>(line + weight_column<Kind>(row, column)) = pack_group<Kind>(values);
  }
}

// To a matrix with a row of Width results for each input; zeros for those beyond the last, up to `rows`.
//
// Eight inputs and four groups of results are a warp's: what it reads lies side by side, and what it writes finds all
// banks of shared memory.
template <class Kind, int Width>
CLOF_DEVICE void pack_transposed(typename Kind::Stored* to, const WeightColumns& w, int rows) {
  constexpr int kGroups = Width / Kind::kGroup, kInputs = 8, kResults = 4;
#pragma unroll 4
  for (int k = thread_index(); k < rows * kGroups; k += num_threads()) {
    const int patch = k / (kInputs * kResults);
    const int group = patch % (kGroups / kResults) * kResults + k % kResults;
    const int input = patch / (kGroups / kResults) * kInputs + k / kResults % kInputs;
    float values[Kind::kGroup];
#pragma unroll
    for (int e = 0; e < Kind::kGroup; ++e) values[e] = weight_at<Kind>(w, group * Kind::kGroup + e, input);
    const int column = weight_column<Kind>(input, group * Kind::kGroup);
    *reinterpret_cast<uint4*>(to + input * Width + column) = pack_group<Kind>(values);
  }
}

}  // namespace clof::cuda
