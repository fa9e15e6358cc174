// What every operator's host side needs: views of tensors as kernel arguments, and the loops over edges and nodes.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "../check.h"
#include "../cpu/dispatch.h"
#include "../cpu/parallel.h"
#include "../functor/arguments.h"
#include "cuts.h"
#include "text.h"
#ifdef CLOF_CUDA
#include "../cuda/launchers.h"
#include "../cuda/stream.h"
#endif

namespace clof {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Enough edges for a thread to be worth waking.
constexpr int64_t kEdgeGrain = 4096;

inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// Whether kernels that read or write 16 bytes at a time may do so in a tensor: it begins at a multiple of that.
inline bool is_aligned(const Tensor& tensor) {
  constexpr uintptr_t kBytes = 16;
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % kBytes == 0;
}
// The tensor, or a copy that does.
inline Tensor aligned(const Tensor& tensor) { return is_aligned(tensor) ? tensor : torch::stable::clone(tensor); }

// The same for what only the kernels of GPUs read so: made dense.
inline Tensor dense_for_pieces(const Tensor& tensor) {
  const Tensor out = dense(tensor);
  return out.is_cuda() ? aligned(out) : out;
}

inline const void* data(const Tensor& tensor) { return tensor.const_data_ptr(); }
inline const void* data(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr() : nullptr;
}

// A new tensor on the device of another and, unless one is named, of its dtype; dense. torch's new_empty and empty_like
// look their operators up by name and go through the dispatcher twice: this goes through it once, on CPUs never.
Tensor empty(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
             std::optional<ScalarType> dtype = std::nullopt);
inline Tensor empty(const Tensor& like) { return empty(like, like.sizes()); }
// A dense tensor that lies in the memory of another, from one of its elements on.
Tensor part(const Tensor& memory, int64_t first, torch::headeronly::IntHeaderOnlyArrayRef sizes);
inline Tensor zeros(const Tensor& like, std::initializer_list<int64_t> sizes) {
  return torch::stable::new_zeros(like, {sizes.begin(), sizes.size()});
}
inline Tensor zeros_like(const Tensor& like, std::optional<ScalarType> dtype = std::nullopt) {
  return torch::stable::new_zeros(like, like.sizes(), dtype);
}
// Where sums over edges go: the kernels for the CPU add to zeros, those for GPUs write every number.
inline Tensor sums_like(const Tensor& like) { return like.is_cuda() ? empty(like) : zeros_like(like); }
inline Tensor cast(const Tensor& tensor, ScalarType dtype) {
  return tensor.scalar_type() == dtype ? tensor : torch::stable::to(tensor, dtype);
}

FrameMode frame_mode(const std::string& mode);
Activation activation_of(const std::string& name);
MatmulPrecision precision_of(const std::string& name);
Storage storage_of(const Tensor& tensor, const char* name);

// Positions or velocities: (N, 3), float32 or float64, made dense.
Tensor checked_positions(const Tensor& pos, const char* name);
// A tensor that must look like another one (its shape, dtype and device), made dense.
Tensor checked_like(const Tensor& tensor, const Tensor& like, const char* name, const char* other);
// A tensor of a shape, with the dtype and device of another, made dense.
Tensor checked_shape(const Tensor& tensor, const Tensor& like, std::initializer_list<int64_t> sizes, const char* name,
                     const char* other);

// Whether an op reads the plan's offsets, and the orders of edges that they are places in.
enum class Offsets { read, unread };

// The plan's tensors, held for as long as their pointers are used. Their shapes are checked and, on CPUs, that offsets
// end with the number of edges, as those of another plan hardly do. The numbers in them are trusted.
struct Plan {
  Tensor edges, offsets;
  Graph graph;
  const int32_t* crossings;

  Plan(const Tensor& edges, const Tensor& offsets, const Tensor& pos, Offsets use = Offsets::read);
};

// Throws where edges sorted by node, which end at `end` of them, are not `count`.
void check_end(int64_t end, int64_t count);

template <class Kernel> void for_edges(const Graph& graph, const Kernel& kernel) {
  cpu::parallel_blocks(graph.num_edges, kEdgeGrain, kernel);
}

template <class Kernel> void for_nodes(const Graph& graph, Place role, const Kernel& kernel) {
  const int32_t* start = role == Place::receiver ? graph.receiver_start : graph.sender_start;
  cpu::parallel_segments(start, graph.num_nodes, kEdgeGrain, kernel);
}

// Calls kernel(role, begin, end) for ranges of nodes so that each edge's parts are added to its two nodes: both at once
// where whole graphs share the work evenly, else once for its receiver and once for its sender. `crossings` is the
// plan's.
template <class Kernel> void for_sums(const Graph& graph, const int32_t* crossings, const Kernel& kernel) {
  const host::Cuts cuts(graph, crossings, host::num_chunks(graph.num_edges, kEdgeGrain));
  if (cuts.closed) {
    return cpu::parallel_range(cuts.count(), 1, [&](int64_t first, int64_t last) {
      for (int64_t chunk = first; chunk < last; ++chunk) {
        kernel(Place::edge, cuts.first_node[chunk], cuts.first_node[chunk + 1]);
      }
    });
  }
  for (Place role : {Place::receiver, Place::sender}) {
    for_nodes(graph, role, [&](int64_t begin, int64_t end) { kernel(role, begin, end); });
  }
}

}  // namespace clof
