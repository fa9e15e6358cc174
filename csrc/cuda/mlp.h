// The perceptron's kernels on CUDA, as the host side calls them.
#pragma once

#include <vector>

#include "../functor/arguments.h"

namespace clof::cuda {

class Stream;

// Why the kernels cannot run a perceptron of these columns of inputs and of each Linear's results on the GPU in use, or
// null if they can. `backward`: its gradients.
const char* mlp_limit(Storage storage, const std::vector<int64_t>& inputs, const std::vector<int64_t>& outputs,
                      bool backward);

void mlp_forward(const MlpProblem& p, const Stream& stream);

// Bytes of memory for the work of the backward pass.
int64_t mlp_backward_bytes(const MlpProblem& p);
void mlp_backward(const MlpProblem& p, void* memory, const Stream& stream);

}  // namespace clof::cuda
