// The edge block's kernels on CUDA, as the host side calls them.
#pragma once

#include "../functor/arguments.h"

namespace clof::cuda {

class Stream;

// Kernels count places of edges in 32 bits, some of them behind the last edge.
constexpr int64_t kMaxEdges = (int64_t(1) << 31) - 1024;

// Why the kernels cannot run a block of these sizes on the GPU in use, or null if they can. `backward`: its gradients.
const char* frame_message_limit(Storage storage, int64_t hidden, int64_t edge_features, bool backward);

// Bytes of memory for the work of a pass.
int64_t frame_message_bytes(const FrameMessageProblem& p, bool backward);
void frame_message_forward(const FrameMessageProblem& p, void* memory, const Stream& stream);

// The padded hidden features, which give the arrays below their widths.
int64_t frame_message_width(const FrameMessageProblem& p);
// All but the products at nodes: `stacked` (2 width, F) becomes what multiplies `grad_parts` (N, 2 width) to the
// gradient of h.
void frame_message_backward(const FrameMessageProblem& p, void* memory, void* stacked, float* grad_parts,
                            const Stream& stream);
// The gradients of weights, given `node_gradient` (2 width, F): grad_parts^T h. The memory is that of the backward
// pass.
void frame_message_finish(const FrameMessageProblem& p, const void* memory, const void* node_gradient,
                          const Stream& stream);

}  // namespace clof::cuda
