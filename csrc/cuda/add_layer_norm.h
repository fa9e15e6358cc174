// The kernels of add_layer_norm on CUDA, as the host side calls them.
#pragma once

#include "../functor/arguments.h"

namespace clof::cuda {

class Stream;

// Why the kernels cannot run tensors of these numbers and so many columns, or null if they can.
const char* add_layer_norm_limit(Storage x, Storage h, Storage weight, int64_t width);

void add_layer_norm(const AddLayerNormProblem& p, const Stream& stream);

// Bytes of memory for the work of the backward pass.
int64_t add_layer_norm_backward_bytes(const AddLayerNormProblem& p);
void add_layer_norm_backward(const AddLayerNormProblem& p, void* memory, const Stream& stream);

}  // namespace clof::cuda
