// Host side of frame_message and its backward pass on CUDA devices.
#ifdef CLOF_CUDA

#include "../cuda/frame_message.h"

#include "frame_message.h"

namespace clof::host {
namespace {

// x y. Into a tensor that is there: autocast, under which a backward pass may run, gives other products its own dtype.
Tensor product(const Tensor& x, const Tensor& y) {
  using torch::stable::detail::from, torch::stable::detail::to;
  const Tensor out = empty(x, {x.size(0), y.size(1)});
  std::array<StableIValue, 3> stack = {from(x), from(y), from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
  return to<Tensor>(stack[0]);
}

struct CudaCall : FrameMessageCall<FrameMessageProblem> {
  cuda::Stream stream;
  Tensor memory;

  template <class... Inputs> explicit CudaCall(const Inputs&... inputs) : FrameMessageCall(inputs...), stream(pos) {
    h = aligned(h);
    a.h = data(h);
    if (!edge_attr.has_value()) return;
    edge_attr = aligned(*edge_attr);
    a.edge_attr = data(edge_attr);
  }

  // Memory for the work of a pass, if the kernels can do it.
  void allocate(bool backward) {
    const bool equal = a.first == a.hidden && a.coord_hidden == a.hidden;
    const char* reason = equal ? cuda::frame_message_limit(a.storage, a.hidden, a.edge_features, backward)
                               : "its kernels take Linears of one width";
    if (a.graph.num_edges > cuda::kMaxEdges) reason = "it holds at most 2^31 - 1024 edges";
    if (reason != nullptr) check::fail("The CUDA backend cannot run this frame_message: ", reason, ".");
    memory = empty(h, {cuda::frame_message_bytes(a, backward)}, ScalarType::Byte);
  }
};

template <class... Inputs> struct FrameMessage {
  static std::tuple<Tensor, Tensor> forward(Inputs... inputs) {
    CudaCall call(inputs...);
    FrameMessageProblem& a = call.a;
    call.allocate(false);
    Tensor message = empty(call.h, {a.graph.num_nodes, a.hidden}), vector = empty(call.pos, {a.graph.num_nodes, 3});
    a.message = message.data_ptr();
    a.vector = vector.data_ptr();
    cuda::frame_message_forward(a, call.memory.data_ptr(), call.stream);
    return {message, vector};
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, std::vector<Tensor>> backward(const Tensor& grad_message,
                                                                                  const Tensor& grad_vector,
                                                                                  Inputs... inputs) {
    CudaCall call(inputs...);
    FrameMessageProblem& a = call.a;
    call.allocate(true);
    FrameMessageGradients gradients(call, grad_message, grad_vector);
    gradients.grad_message = aligned(gradients.grad_message);
    a.grad_message = data(gradients.grad_message);
    const int64_t width = cuda::frame_message_width(a);
    Tensor stacked = empty(call.h, {2 * width, a.node_features});
    Tensor grad_parts = empty(call.pos, {a.graph.num_nodes, 2 * width});
    cuda::frame_message_backward(a, call.memory.data_ptr(), stacked.data_ptr(),
                                 static_cast<float*>(grad_parts.data_ptr()), call.stream);
    // The products at nodes are the library's.
    grad_parts = cast(grad_parts, call.h.scalar_type());
    gradients.grad_h = product(grad_parts, stacked);
    const Tensor node_gradient = product(torch::stable::transpose(grad_parts, 0, 1), call.h);
    cuda::frame_message_finish(a, call.memory.data_ptr(), data(node_gradient), call.stream);
    return gradients.results();
  }
};

using CudaFrameMessage = WithFrameMessageInputs<FrameMessage>;

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CUDA, library) {
  library.impl("frame_message", TORCH_BOX(&clof::host::CudaFrameMessage::forward));
  library.impl("frame_message_backward", TORCH_BOX(&clof::host::CudaFrameMessage::backward));
}

#endif
