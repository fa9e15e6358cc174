// Host side of edge_frame, its backward pass and the backward pass of that, on any device.
#include "host.h"

namespace clof::host {
namespace {

void map(const Tensor& pos, const EdgeFrameArguments& a, bool second) {
#ifdef CLOF_CUDA
  if (pos.is_cuda()) return cuda::edge_frame_map(a, second, cuda::Stream(pos));
#endif
  for_edges(a.graph, [&](int64_t begin, int64_t end) { cpu::kernels().edge_frame_map(a, second, begin, end); });
}

void sum(const Tensor& pos, const EdgeFrameArguments& a, bool second) {
#ifdef CLOF_CUDA
  if (pos.is_cuda()) return cuda::edge_frame_sum(a, second, cuda::Stream(pos));
#endif
  for_sums(a.graph, a.crossings,
           [&](Place role, int64_t begin, int64_t end) { cpu::kernels().edge_frame_sum(a, second, role, begin, end); });
}

Tensor edge_frame(const Tensor& pos_, const Tensor& edges, const Tensor& offsets, const Text& mode) {
  const Tensor pos = checked_positions(pos_, "pos");
  const Plan plan(edges, offsets, pos);
  Tensor frame = empty(pos, {plan.graph.num_edges, 3, 3});
  map(pos,
      {plan.graph, frame_mode(mode), storage_of(pos, "pos"), data(pos), nullptr, nullptr, frame.data_ptr(), nullptr},
      false);
  return frame;
}

Tensor edge_frame_backward(const Tensor& grad_frame_, const Tensor& pos_, const Tensor& edges, const Tensor& offsets,
                           const Text& mode) {
  const Tensor pos = checked_positions(pos_, "pos");
  const Plan plan(edges, offsets, pos);
  const Tensor grad_frame = checked_shape(grad_frame_, pos, {plan.graph.num_edges, 3, 3}, "grad_frame", "pos");
  Tensor grad_pos = sums_like(pos);
  sum(pos,
      {plan.graph, frame_mode(mode), storage_of(pos, "pos"), data(pos), nullptr, data(grad_frame), nullptr,
       grad_pos.data_ptr(), plan.crossings},
      false);
  return grad_pos;
}

std::tuple<Tensor, Tensor> edge_frame_double_backward(const Tensor& grad_grad_pos_, const Tensor& grad_frame_,
                                                      const Tensor& pos_, const Tensor& edges, const Tensor& offsets,
                                                      const Text& mode) {
  const Tensor pos = checked_positions(pos_, "pos");
  const Plan plan(edges, offsets, pos);
  const Tensor grad_grad_pos = checked_like(grad_grad_pos_, pos, "grad_grad_pos", "pos");
  const Tensor grad_frame = checked_shape(grad_frame_, pos, {plan.graph.num_edges, 3, 3}, "grad_frame", "pos");
  Tensor grad_grad_frame = empty(pos, {plan.graph.num_edges, 3, 3}), grad_pos = sums_like(pos);
  const EdgeFrameArguments a = {plan.graph,          frame_mode(mode), storage_of(pos, "pos"),     data(pos),
                                data(grad_grad_pos), data(grad_frame), grad_grad_frame.data_ptr(), grad_pos.data_ptr(),
                                plan.crossings};
  map(pos, a, true);
  sum(pos, a, true);
  return {grad_grad_frame, grad_pos};
}

}  // namespace
}  // namespace clof::host

#define CLOF_IMPLEMENT(library)                                                     \
  library.impl("edge_frame", TORCH_BOX(&clof::host::edge_frame));                   \
  library.impl("edge_frame_backward", TORCH_BOX(&clof::host::edge_frame_backward)); \
  library.impl("edge_frame_double_backward", TORCH_BOX(&clof::host::edge_frame_double_backward))

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) { CLOF_IMPLEMENT(library); }
#ifdef CLOF_CUDA
STABLE_TORCH_LIBRARY_IMPL(clof_ext, CUDA, library) { CLOF_IMPLEMENT(library); }
#endif
