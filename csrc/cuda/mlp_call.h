// How a call of mlp becomes the arguments of its kernels. No CUDA here, so that tests can run the kernels without a
// GPU.
#pragma once

#include "tile/finish.cuh"
#include "tile/mlp_backward.cuh"

namespace clof::cuda {

// Results of every Linear are padded to one of these; of the backward pass to the first.
constexpr int kNarrowMlp = 64, kWideMlp = 128;

inline int64_t widest_of(const MlpProblem& p) {
  int64_t widest = 0;
  for (int k = 1; k <= p.num_linears; ++k) widest = p.columns[k] > widest ? p.columns[k] : widest;
  return widest;
}

inline MlpPass mlp_pass(const MlpProblem& p, bool backward) {
  return {widest_of(p) <= kNarrowMlp ? kNarrowMlp : kWideMlp, p.storage == Storage::float32 ? 4 : 2, backward};
}

inline Mlp mlp_of(const MlpProblem& p, bool backward) { return {p, mlp_layout(p, mlp_pass(p, backward))}; }

// Blocks of threads that work on rows, as many as run at a time; but none of the forward pass without a tile for each
// of a multiprocessor's four schedulers, and none of the backward pass without rows.
inline int64_t mlp_blocks(int64_t rows, int64_t most, bool backward) {
  constexpr int kSchedulers = 4;
  const int64_t blocks = whole(rows, backward ? kMlpBlockRows : kSchedulers * kRows);
  return blocks < most ? blocks : most;
}

// From the sums of `blocks` blocks to the tensors of the caller.
inline FinishJobs mlp_finish_jobs(const MlpProblem& p, const float* sums, int64_t blocks) {
  const MlpPass pass = mlp_pass(p, true);
  const MlpSumPlaces places = mlp_sum_places(p, pass.width);
  FinishJobs jobs = {};
  jobs.num_sums = int(blocks);
  const auto add = [&](void* to, int64_t leading, int64_t rows, int64_t columns, int64_t place, int64_t row_stride) {
    jobs.parts[jobs.num_parts++] = {to, leading, int(rows), int(columns), sums + place, row_stride, 1, places.total};
  };
  char* first = static_cast<char*>(p.linears[0].grad_weight);
  for (int k = 0; k < p.num_inputs; ++k) {
    add(first, p.columns[0], p.columns[1], p.input_columns[k], places.inputs[k], places.first_columns);
    first += p.input_columns[k] * pass.number_bytes;
  }
  for (int k = 0; k < p.num_linears; ++k) {
    const LinearArguments& linear = p.linears[k];
    if (k > 0) add(linear.grad_weight, p.columns[k], p.columns[k + 1], p.columns[k], places.layers[k], pass.width);
    add(linear.grad_bias, p.columns[k + 1], 1, p.columns[k + 1], places.biases + k * pass.width, pass.width);
  }
  return jobs;
}

}  // namespace clof::cuda
