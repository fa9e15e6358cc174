// Host side of edge_scalars, its backward pass and the backward pass of that, on any device.
#include "../functor/edge_scalars.h"

#include "host.h"

namespace clof::host {
namespace {

using OptionalTensor = std::optional<Tensor>;

void map(const Tensor& pos, const EdgeScalarsArguments& a, bool second) {
#ifdef CLOF_CUDA
  if (pos.is_cuda()) return cuda::edge_scalars_map(a, second, cuda::Stream(pos));
#endif
  for_edges(a.graph, [&](int64_t begin, int64_t end) { cpu::kernels().edge_scalars_map(a, second, begin, end); });
}

void sum(const Tensor& pos, const EdgeScalarsArguments& a, bool second) {
#ifdef CLOF_CUDA
  if (pos.is_cuda()) return cuda::edge_scalars_sum(a, second, cuda::Stream(pos));
#endif
  for_sums(a.graph, a.crossings, [&](Place role, int64_t begin, int64_t end) {
    cpu::kernels().edge_scalars_sum(a, second, role, begin, end);
  });
}

OptionalTensor checked_optional(const OptionalTensor& tensor, const Tensor& pos, const char* name) {
  if (!tensor.has_value()) return std::nullopt;
  return checked_like(*tensor, pos, name, "pos");
}

// The positions, velocities and plan of a call, checked.
struct Inputs {
  Tensor pos;
  OptionalTensor vel;
  Plan plan;

  Inputs(const Tensor& pos_, const OptionalTensor& vel_, const Tensor& edges, const Tensor& offsets,
         Offsets use = Offsets::read)
      : pos(checked_positions(pos_, "pos")), vel(checked_optional(vel_, pos, "vel")), plan(edges, offsets, pos, use) {}

  int64_t width() const { return vel.has_value() ? kScalarsWithVelocity : kScalarsWithoutVelocity; }

  Tensor checked_grad(const Tensor& grad) const {
    return dense_for_pieces(checked_shape(grad, pos, {plan.graph.num_edges, width()}, "grad_scalars", "pos"));
  }

  // Without velocities the operator returns an empty gradient in their place.
  Tensor grad_vel() const { return vel.has_value() ? sums_like(*vel) : empty(pos, {0, 3}); }

  EdgeScalarsArguments arguments(const std::string& mode) const {
    EdgeScalarsArguments a = {};
    a.graph = plan.graph;
    a.crossings = plan.crossings;
    a.mode = frame_mode(mode);
    a.dtype = storage_of(pos, "pos");
    a.pos = data(pos);
    a.vel = data(vel);
    return a;
  }
};

Tensor edge_scalars(const Tensor& pos, const OptionalTensor& vel, const Tensor& edges, const Tensor& offsets,
                    const Text& mode) {
  // Edges may be some of the plan's.
  const Inputs in(pos, vel, edges, offsets, Offsets::unread);
  Tensor scalars = empty(in.pos, {in.plan.graph.num_edges, in.width()});
  EdgeScalarsArguments a = in.arguments(mode);
  a.scalars = scalars.data_ptr();
  map(in.pos, a, false);
  return scalars;
}

std::tuple<Tensor, Tensor> edge_scalars_backward(const Tensor& grad_scalars_, const Tensor& pos,
                                                 const OptionalTensor& vel, const Tensor& edges, const Tensor& offsets,
                                                 const Text& mode) {
  const Inputs in(pos, vel, edges, offsets);
  const Tensor grad_scalars = in.checked_grad(grad_scalars_);
  Tensor grad_pos = sums_like(in.pos), grad_vel = in.grad_vel();
  EdgeScalarsArguments a = in.arguments(mode);
  a.grad_scalars = data(grad_scalars);
  a.grad_pos = grad_pos.data_ptr();
  a.grad_vel = grad_vel.data_ptr();
  sum(in.pos, a, false);
  return {grad_pos, grad_vel};
}

std::tuple<Tensor, Tensor, Tensor> edge_scalars_double_backward(const Tensor& grad_grad_pos_,
                                                                const OptionalTensor& grad_grad_vel_,
                                                                const Tensor& grad_scalars_, const Tensor& pos,
                                                                const OptionalTensor& vel, const Tensor& edges,
                                                                const Tensor& offsets, const Text& mode) {
  const Inputs in(pos, vel, edges, offsets);
  const Tensor grad_grad_pos = checked_like(grad_grad_pos_, in.pos, "grad_grad_pos", "pos");
  const OptionalTensor grad_grad_vel = checked_optional(grad_grad_vel_, in.pos, "grad_grad_vel");
  const Tensor grad_scalars = in.checked_grad(grad_scalars_);
  Tensor grad_grad_scalars = empty(in.pos, {in.plan.graph.num_edges, in.width()});
  Tensor grad_pos = sums_like(in.pos), grad_vel = in.grad_vel();
  EdgeScalarsArguments a = in.arguments(mode);
  a.pos_tangent = data(grad_grad_pos);
  a.vel_tangent = data(grad_grad_vel);
  a.grad_scalars = data(grad_scalars);
  a.scalars = grad_grad_scalars.data_ptr();
  a.grad_pos = grad_pos.data_ptr();
  a.grad_vel = grad_vel.data_ptr();
  map(in.pos, a, true);
  sum(in.pos, a, true);
  return {grad_grad_scalars, grad_pos, grad_vel};
}

}  // namespace
}  // namespace clof::host

#define CLOF_IMPLEMENT(library)                                                         \
  library.impl("edge_scalars", TORCH_BOX(&clof::host::edge_scalars));                   \
  library.impl("edge_scalars_backward", TORCH_BOX(&clof::host::edge_scalars_backward)); \
  library.impl("edge_scalars_double_backward", TORCH_BOX(&clof::host::edge_scalars_double_backward))

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) { CLOF_IMPLEMENT(library); }
#ifdef CLOF_CUDA
STABLE_TORCH_LIBRARY_IMPL(clof_ext, CUDA, library) { CLOF_IMPLEMENT(library); }
#endif
