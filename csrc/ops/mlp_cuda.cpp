// Host side of mlp and its backward pass on CUDA devices.
#ifdef CLOF_CUDA

#include "../cuda/mlp.h"

#include "mlp.h"

namespace clof::host {
namespace {

struct CudaCall : MlpCall<MlpProblem> {
  cuda::Stream stream;

  CudaCall(const std::vector<Tensor>& inputs_, const std::vector<Tensor>& weights_, const std::string& activation,
           bool activate_last, const std::string& precision, bool backward)
      : MlpCall(inputs_, weights_, activation, activate_last, precision), stream(inputs[0]) {
    const std::vector<int64_t> columns(a.input_columns, a.input_columns + a.num_inputs);
    const std::vector<int64_t> outputs(a.columns + 1, a.columns + 1 + a.num_linears);
    const char* reason = cuda::mlp_limit(a.storage, columns, outputs, backward);
    if (reason != nullptr) check::fail("The CUDA backend cannot run this mlp: ", reason, ".");
    for (int k = 0; k < a.num_inputs; ++k) {
      inputs[k] = aligned(inputs[k]);
      a.inputs[k] = data(inputs[k]);
    }
  }
};

Tensor mlp(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights, const Text& activation,
           bool activate_last, const Text& precision) {
  CudaCall call(inputs, weights, activation, activate_last, precision, false);
  Tensor out = call.make_output();
  cuda::mlp_forward(call.a, call.stream);
  return out;
}

void mlp_into(const Tensor& out, const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
              const Text& activation, bool activate_last, const Text& precision) {
  CudaCall call(inputs, weights, activation, activate_last, precision, false);
  call.take_output(out);
  cuda::mlp_forward(call.a, call.stream);
}

std::tuple<std::vector<Tensor>, std::vector<Tensor>> mlp_backward(const Tensor& grad, const std::vector<Tensor>& inputs,
                                                                  const std::vector<Tensor>& weights,
                                                                  const Text& activation, bool activate_last,
                                                                  bool input_gradients, const Text& precision) {
  CudaCall call(inputs, weights, activation, activate_last, precision, true);
  const MlpGradients gradients(call, grad, input_gradients);
  const Tensor aligned_grad = aligned(gradients.grad);
  call.a.grad_out = data(aligned_grad);
  Tensor memory = empty(call.inputs[0], {cuda::mlp_backward_bytes(call.a)}, ScalarType::Byte);
  cuda::mlp_backward(call.a, memory.data_ptr(), call.stream);
  return gradients.results();
}

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CUDA, library) {
  library.impl("mlp", TORCH_BOX(&clof::host::mlp));
  library.impl("mlp_into", TORCH_BOX(&clof::host::mlp_into));
  library.impl("mlp_backward", TORCH_BOX(&clof::host::mlp_backward));
}

#endif
