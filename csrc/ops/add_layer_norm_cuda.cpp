// Host side of add_layer_norm and its backward pass, which CUDA devices alone have.
#ifdef CLOF_CUDA

#include "../cuda/add_layer_norm.h"

#include "host.h"

namespace clof::host {
namespace {

// The arguments of a call, checked, and held for as long as their pointers are used.
struct Call {
  Tensor x, h, weight;
  cuda::Stream stream;
  AddLayerNormProblem a = {};

  Call(const Tensor& x_, const Tensor& h_, const Tensor& weight_, double times, double eps)
      : x(rows_of(x_)), stream(x) {
    a.rows = x.size(0);
    a.width = x.size(1);
    h = beside(h_, {a.rows, a.width}, "h");
    weight = beside(weight_, {a.width}, "weight");
    a.x_storage = storage_of(x, "x");
    a.h_storage = storage_of(h, "h");
    a.storage = storage_of(weight, "weight");
    const char* reason = cuda::add_layer_norm_limit(a.x_storage, a.h_storage, a.storage, a.width);
    if (reason != nullptr) check::fail("The CUDA backend cannot run this add_layer_norm: ", reason, ".");
    a.times = times;
    a.eps = eps;
    a.x = data(x);
    a.h = data(h);
    a.weight = data(weight);
  }

  static Tensor rows_of(const Tensor& x) {
    check::shape(x, {check::any, check::any}, "x");
    return dense(x);
  }

  // A tensor on the device of x, of any dtype.
  Tensor beside(const Tensor& tensor, std::initializer_list<int64_t> sizes, const char* name) const {
    check::shape(tensor, sizes, name);
    check::same_device(tensor, x, name, "x");
    return dense(tensor);
  }
};

Tensor add_layer_norm(const Tensor& x, const Tensor& h, const Tensor& weight, const Tensor& bias_, double times,
                      double eps) {
  Call call(x, h, weight, times, eps);
  AddLayerNormProblem& a = call.a;
  const Tensor bias = checked_like(bias_, call.weight, "bias", "weight");
  Tensor out = empty(call.x, call.x.sizes(), call.weight.scalar_type());
  a.bias = data(bias);
  a.out = out.data_ptr();
  cuda::add_layer_norm(a, call.stream);
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> add_layer_norm_backward(const Tensor& grad_, const Tensor& x,
                                                                   const Tensor& h, const Tensor& weight, double times,
                                                                   double eps, bool h_gradient) {
  Call call(x, h, weight, times, eps);
  AddLayerNormProblem& a = call.a;
  const Tensor grad = checked_shape(grad_, call.weight, {a.rows, a.width}, "grad", "weight");
  Tensor grad_x = empty(call.x), grad_h = empty(call.h, {h_gradient ? a.rows : 0, a.width});
  Tensor grad_weight = empty(call.weight), grad_bias = empty(call.weight);
  a.grad = data(grad);
  a.grad_x = grad_x.data_ptr();
  a.grad_h = h_gradient ? grad_h.data_ptr() : nullptr;
  a.grad_weight = grad_weight.data_ptr();
  a.grad_bias = grad_bias.data_ptr();
  Tensor memory = empty(call.x, {cuda::add_layer_norm_backward_bytes(a)}, ScalarType::Byte);
  cuda::add_layer_norm_backward(a, memory.data_ptr(), call.stream);
  return {grad_x, grad_h, grad_weight, grad_bias};
}

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CUDA, library) {
  library.impl("add_layer_norm", TORCH_BOX(&clof::host::add_layer_norm));
  library.impl("add_layer_norm_backward", TORCH_BOX(&clof::host::add_layer_norm_backward));
}

#endif
