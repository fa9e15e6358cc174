// Gradients of weights, from the sums of blocks to the tensors of the caller.
#pragma once

#include "number.cuh"

namespace clof::cuda {

// A block of a gradient: rows x columns, `leading` numbers apart in the tensor.
struct GradientPart {
  void* to;
  int64_t leading;
  int rows, columns;
  const void* from;  // float32 sums of the first block of threads, `row_stride` and `column_stride` apart; or the
                     // result itself, of the tensor's own numbers
  int64_t row_stride, column_stride;
  int64_t block_stride;  // 0 for the result itself
};

struct FinishJobs {
  static constexpr int kMaxParts = 18;
  // Blocks of threads for each part.
  static constexpr int kBlocks = 16;

  GradientPart parts[kMaxParts];
  int num_parts;
  int num_sums;
};

template <class Kind> CLOF_DEVICE void finish_gradients(const FinishJobs& jobs) {
  const GradientPart& part = jobs.parts[block_index() / FinishJobs::kBlocks];
  const int64_t first = int64_t(block_index() % FinishJobs::kBlocks) * num_threads() + thread_index();
  for (int64_t k = first; k < int64_t(part.rows) * part.columns; k += FinishJobs::kBlocks * num_threads()) {
    const int64_t row = k / part.columns, column = k % part.columns;
    const int64_t at = row * part.row_stride + column * part.column_stride;
    float sum = 0.0f;
    if (part.block_stride == 0) {
      sum = load_number<Kind>(part.from, at);
    } else {
#pragma unroll 16
      for (int block = 0; block < jobs.num_sums; ++block) {
        sum += static_cast<const float*>(part.from)[at + block * part.block_stride];
      }
    }
    store_number<Kind>(part.to, row * part.leading + column, sum);
  }
}

// What multiplies the gradients by the first Linear's outputs of nodes: (2 Width, F), the weights of receivers above
// those of senders, with zeros for hidden features that are padding.
struct StackedWeights {
  const void* weight;
  int64_t leading;
  int hidden, width, features;
  void* to;
};

template <class Kind> CLOF_DEVICE void stack_weights(const StackedWeights& a, int64_t first, int64_t step) {
  for (int64_t k = first; k < 2 * int64_t(a.width) * a.features; k += step) {
    const int64_t row = k / a.features, column = k % a.features, role = row / a.width, result = row % a.width;
    float x = 0.0f;
    if (result < a.hidden) x = load_number<Kind>(a.weight, result * a.leading + role * a.features + column);
    store_number<Kind>(a.to, k, x);
  }
}

}  // namespace clof::cuda
