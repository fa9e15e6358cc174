#include "mlp.cuh"

#include "tile/with_kind.h"

namespace clof::cuda {

// Made by mlp_<kind>.cu.
extern template struct MlpLaunches<Tf32>;
extern template struct MlpLaunches<Tf32x3>;
extern template struct MlpLaunches<BFloat16Kind>;
extern template struct MlpLaunches<Float16Kind>;

const char* mlp_limit(Storage storage, const std::vector<int64_t>& inputs, const std::vector<int64_t>& outputs,
                      bool backward) {
  // Of what is no perceptron nothing is said here: the operator's checks do.
  const size_t num_inputs = inputs.size(), num_linears = outputs.size();
  if (num_inputs < 1 || num_inputs > kMaxMlpInputs || num_linears < 1 || num_linears > kMaxMlpLinears) return nullptr;
  if (storage == Storage::float64) return "it computes in float32";
  MlpProblem p = {};
  p.storage = storage;
  for (int64_t columns : inputs) {
    // Far beyond what shared memory holds, and so that sizes stay small numbers.
    constexpr int64_t kMostColumns = 1 << 16;
    if (columns > kMostColumns) return "its weights need more shared memory than this GPU has";
    p.input_columns[p.num_inputs++] = columns;
  }
  for (int64_t columns : outputs) {
    if (columns < 1) return "each of its Linears has a result";
    if (columns > kWideMlp) return "its Linears have at most 128 results";
    if (backward && columns > kNarrowMlp) return "the Linears of its backward pass have at most 64 results";
    p.columns[++p.num_linears] = columns;
  }
  p.input_gradients = true;
  const int64_t shared = block_shared_bytes();
  if (mlp_of(p, false).layout.bytes > shared) return "its weights need more shared memory than this GPU has";
  if (backward && mlp_of(p, true).layout.bytes > shared) {
    return "its backward pass needs more shared memory than this GPU has";
  }
  return nullptr;
}

void mlp_forward(const MlpProblem& p, const Stream& stream) {
  with_kind(p, [&](auto kind) { MlpLaunches<decltype(kind)>::run_forward(p, stream); });
}

int64_t mlp_backward_bytes(const MlpProblem& p) {
  return mlp_backward_blocks(p) * mlp_sum_places(p, kNarrowMlp).total * int64_t(sizeof(float));
}

void mlp_backward(const MlpProblem& p, void* memory, const Stream& stream) {
  with_kind(p, [&](auto kind) { MlpLaunches<decltype(kind)>::run_backward(p, static_cast<float*>(memory), stream); });
}

}  // namespace clof::cuda
