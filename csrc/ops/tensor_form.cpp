// Host side of project and aggregate, their backward passes and the backward passes of those, on any device. All are
// gradients of one form B(s, T, F(x)): see csrc/math/tensor_form.h.
#include "host.h"

namespace clof::host {
namespace {

int64_t components(int64_t order) { return order == 0 ? 1 : 3 * components(order - 1); }

Place place_of(const std::string& source) {
  if (source == "receiver") return Place::receiver;
  if (source == "sender") return Place::sender;
  if (source == "edge") return Place::edge;
  check::not_one_of(source, "'receiver', 'sender', 'edge'", "source");
}

bool is_mean(const std::string& reduce) {
  if (reduce == "sum" || reduce == "mean") return reduce == "mean";
  check::not_one_of(reduce, "'sum', 'mean'", "reduce");
}

void map(const Tensor& pos, const TensorFormArguments& a, bool second) {
#ifdef CLOF_CUDA
  if (pos.is_cuda()) return cuda::tensor_form_map(a, second, cuda::Stream(pos));
#endif
  for_edges(a.graph, [&](int64_t begin, int64_t end) { cpu::kernels().tensor_form_map(a, second, begin, end); });
}

void sum(const Tensor& pos, const TensorFormArguments& a, bool second, Place role) {
#ifdef CLOF_CUDA
  if (pos.is_cuda()) return cuda::tensor_form_sum(a, second, role, cuda::Stream(pos));
#endif
  for_nodes(a.graph, role,
            [&](int64_t begin, int64_t end) { cpu::kernels().tensor_form_sum(a, second, role, begin, end); });
}

// What defines the form: positions, edges, tensor order, where T lives.
struct Form {
  Tensor pos;
  Plan plan;
  FrameMode mode;
  int64_t order;
  Place place;
  bool mean;

  Form(const Tensor& pos_, const Tensor& edges, const Tensor& offsets, int64_t order, Place place, bool mean,
       const std::string& mode)
      : pos(checked_positions(pos_, "pos")),
        plan(edges, offsets, pos),
        mode(frame_mode(mode)),
        order(order),
        place(place),
        mean(mean) {
    check::order(order);
  }

  int64_t rows() const { return place == Place::edge ? plan.graph.num_edges : plan.graph.num_nodes; }

  Tensor checked_feature(const Tensor& tensor, const char* name) const {
    const bool half = tensor.scalar_type() == ScalarType::BFloat16 || tensor.scalar_type() == ScalarType::Half;
    if (!(half && pos.scalar_type() == ScalarType::Float)) check::dtype(tensor, pos.scalar_type(), name);
    check::same_device(tensor, pos, name, "pos");
    return dense_for_pieces(tensor);
  }
  Tensor checked_s(const Tensor& s, const char* name) const {
    check::shape(s, {plan.graph.num_edges, check::any, components(order)}, name);
    return checked_feature(s, name);
  }
  Tensor checked_t(const Tensor& t, const char* name) const {
    check::tensors_of_order(t, rows(), order, name);
    return checked_feature(t, name);
  }

  TensorFormArguments arguments(const Tensor& feature) const {
    TensorFormArguments a = {};
    a.graph = plan.graph;
    a.mode = mode;
    a.order = int(order);
    a.dtype = storage_of(pos, "pos");
    a.storage = storage_of(feature, "features");
    a.place = place;
    a.mean = mean;
    a.channels = feature.size(1);
    a.pos = data(pos);
    a.crossings = plan.crossings;
    return a;
  }

  Tensor empty_s(const Tensor& feature) const {
    return empty(feature, {plan.graph.num_edges, feature.size(1), components(order)});
  }

  // Whether a GPU's kernels write the sums of first derivatives, every number of them; others add to zeros.
  bool sums_are_written(const Tensor& feature) const {
#ifdef CLOF_CUDA
    return pos.is_cuda() && order <= cuda::kTiledOrders && feature.size(1) > 0;
#else
    return false;
#endif
  }

  // T of the form, zero where it is added to: sums on nodes are made in the type of the positions.
  Tensor sums_of_t(const Tensor& feature, bool second) const {
    std::vector<int64_t> sizes(2 + order, 3);
    sizes[0] = rows();
    sizes[1] = feature.size(1);
    const ScalarType dtype = place == Place::edge ? feature.scalar_type() : pos.scalar_type();
    const bool written = place == Place::edge || (sums_are_written(feature) && !second);
    if (written) return empty(feature, sizes, dtype);
    return torch::stable::new_zeros(feature, {sizes.data(), sizes.size()}, dtype);
  }

  void sum_over_nodes(const TensorFormArguments& a, bool second) const {
#ifdef CLOF_CUDA
    if (pos.is_cuda()) {
      for (Place role : {Place::receiver, Place::sender}) sum(pos, a, second, role);
      return;
    }
#endif
    for_sums(a.graph, a.crossings, [&](Place role, int64_t begin, int64_t end) {
      cpu::kernels().tensor_form_sum(a, second, role, begin, end);
    });
  }
};

Tensor project(const Form& form, const Tensor& tensor_) {
  const Tensor tensor = form.checked_t(tensor_, "tensor");
  Tensor scalars = form.empty_s(tensor);
  TensorFormArguments a = form.arguments(tensor);
  a.t = data(tensor);
  a.grad_s = scalars.data_ptr();
  map(form.pos, a, false);
  return scalars;
}

Tensor aggregate(const Form& form, const Tensor& scalars_) {
  const Tensor scalars = form.checked_s(scalars_, "scalars");
  Tensor tensor = form.sums_of_t(scalars, false);
  TensorFormArguments a = form.arguments(scalars);
  a.s = data(scalars);
  a.grad_t = tensor.data_ptr();
  sum(form.pos, a, false, Place::receiver);
  return cast(tensor, scalars.scalar_type());
}

// Gradients of the form by s, by T (both if wanted) and by the positions. With tangents: their derivatives in the
// direction of the tangents.
struct FormGradient {
  Tensor s, t, pos;
};

struct Wanted {
  bool s, t;
};

FormGradient gradient(const Form& form, const Tensor& s, const Tensor& t, Wanted wanted, bool second = false,
                      const Tensor* s_tangent = nullptr, const Tensor* t_tangent = nullptr,
                      const Tensor* pos_tangent = nullptr) {
  const bool tiled = form.sums_are_written(s) && !second;
  FormGradient grad = {wanted.s ? form.empty_s(s) : s, wanted.t ? form.sums_of_t(t, second) : t,
                       tiled ? empty(form.pos) : zeros_like(form.pos)};
  TensorFormArguments a = form.arguments(s);
  a.s = data(s);
  a.t = data(t);
  a.s_tangent = s_tangent ? data(*s_tangent) : nullptr;
  a.t_tangent = t_tangent ? data(*t_tangent) : nullptr;
  a.pos_tangent = pos_tangent ? data(*pos_tangent) : nullptr;
  a.grad_s = wanted.s ? grad.s.data_ptr() : nullptr;
  a.grad_t = wanted.t ? grad.t.data_ptr() : nullptr;
  a.grad_pos = grad.pos.data_ptr();
#ifdef CLOF_CUDA
  if (tiled) {
    Tensor parts = empty(form.pos, {2, form.plan.graph.num_edges, 3});
    Tensor open = empty(form.pos, {form.pos.size(0)}, ScalarType::Int);
    cuda::tensor_form_backward(a, {parts.data_ptr(), static_cast<int32_t*>(open.data_ptr())}, cuda::Stream(form.pos));
    return grad;
  }
#endif
  if (wanted.s || (wanted.t && form.place == Place::edge)) map(form.pos, a, second);
  form.sum_over_nodes(a, second);
  return grad;
}

void check_channels(const Tensor& s, const Tensor& t, const char* name, const char* other) {
  if (s.size(1) != t.size(1)) {
    check::fail(name, " must have the channels of ", other, ", ", t.size(1), "; got ", s.size(1), ".");
  }
  check::dtype(s, t.scalar_type(), name);
}

std::tuple<Tensor, Tensor> project_backward(const Form& form, const Tensor& grad_scalars, const Tensor& tensor_) {
  const Tensor s = form.checked_s(grad_scalars, "grad_scalars"), t = form.checked_t(tensor_, "tensor");
  check_channels(s, t, "grad_scalars", "tensor");
  const FormGradient grad = gradient(form, s, t, {false, true});
  return {cast(grad.t, t.scalar_type()), grad.pos};
}

std::tuple<Tensor, Tensor> aggregate_backward(const Form& form, const Tensor& grad_tensor, const Tensor& scalars) {
  const Tensor s = form.checked_s(scalars, "scalars"), t = form.checked_t(grad_tensor, "grad_tensor");
  check_channels(s, t, "scalars", "grad_tensor");
  const FormGradient grad = gradient(form, s, t, {true, false});
  return {grad.s, grad.pos};
}

// Second derivatives of half-precision features are computed on copies in the type of the positions.
std::tuple<Tensor, Tensor, Tensor> project_double_backward(const Form& form, const Tensor& grad_grad_tensor_,
                                                           const Tensor& grad_grad_pos, const Tensor& grad_scalars,
                                                           const Tensor& tensor_) {
  const Tensor s = form.checked_s(grad_scalars, "grad_scalars"), t = form.checked_t(tensor_, "tensor");
  check_channels(s, t, "grad_scalars", "tensor");
  const ScalarType wide = form.pos.scalar_type(), stored = t.scalar_type();
  const Tensor tangent = cast(checked_like(grad_grad_tensor_, t, "grad_grad_tensor", "tensor"), wide);
  const Tensor pos_tangent = checked_like(grad_grad_pos, form.pos, "grad_grad_pos", "pos");
  const FormGradient grad =
      gradient(form, cast(s, wide), cast(t, wide), {true, true}, true, nullptr, &tangent, &pos_tangent);
  return {cast(grad.s, stored), cast(grad.t, stored), grad.pos};
}

std::tuple<Tensor, Tensor, Tensor> aggregate_double_backward(const Form& form, const Tensor& grad_grad_scalars_,
                                                             const Tensor& grad_grad_pos, const Tensor& grad_tensor,
                                                             const Tensor& scalars_) {
  const Tensor s = form.checked_s(scalars_, "scalars"), t = form.checked_t(grad_tensor, "grad_tensor");
  check_channels(s, t, "scalars", "grad_tensor");
  const ScalarType wide = form.pos.scalar_type(), stored = s.scalar_type();
  const Tensor tangent = cast(checked_like(grad_grad_scalars_, s, "grad_grad_scalars", "scalars"), wide);
  const Tensor pos_tangent = checked_like(grad_grad_pos, form.pos, "grad_grad_pos", "pos");
  const FormGradient grad =
      gradient(form, cast(s, wide), cast(t, wide), {true, true}, true, &tangent, nullptr, &pos_tangent);
  return {cast(grad.t, stored), cast(grad.s, stored), grad.pos};
}

// Turns a function of the form and its tensors into an operator with the arguments of the schemas.
template <auto function> struct Operator;
template <class Result, class... Tensors, Result (*function)(const Form&, Tensors...)> struct Operator<function> {
  static Result project(Tensors... tensors, const Tensor& pos, const Tensor& edges, const Tensor& offsets,
                        int64_t order, const Text& source, const Text& mode) {
    return function(Form(pos, edges, offsets, order, place_of(source), false, mode), tensors...);
  }
  static Result aggregate(Tensors... tensors, const Tensor& pos, const Tensor& edges, const Tensor& offsets,
                          int64_t order, const Text& reduce, const Text& mode) {
    return function(Form(pos, edges, offsets, order, Place::receiver, is_mean(reduce), mode), tensors...);
  }
};

}  // namespace
}  // namespace clof::host

#define CLOF_IMPLEMENT(library)                                                                                    \
  library.impl("project", TORCH_BOX(&clof::host::Operator<clof::host::project>::project));                         \
  library.impl("project_backward", TORCH_BOX(&clof::host::Operator<clof::host::project_backward>::project));       \
  library.impl("project_double_backward",                                                                          \
               TORCH_BOX(&clof::host::Operator<clof::host::project_double_backward>::project));                    \
  library.impl("aggregate", TORCH_BOX(&clof::host::Operator<clof::host::aggregate>::aggregate));                   \
  library.impl("aggregate_backward", TORCH_BOX(&clof::host::Operator<clof::host::aggregate_backward>::aggregate)); \
  library.impl("aggregate_double_backward",                                                                        \
               TORCH_BOX(&clof::host::Operator<clof::host::aggregate_double_backward>::aggregate))

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) { CLOF_IMPLEMENT(library); }
#ifdef CLOF_CUDA
STABLE_TORCH_LIBRARY_IMPL(clof_ext, CUDA, library) { CLOF_IMPLEMENT(library); }
#endif
