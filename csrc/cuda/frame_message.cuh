// Launches of the edge block's kernels for one kind of number; frame_message_<kind>.cu makes them.
#pragma once

#include "edge_block.h"
#include "frame_message.h"
#include "launch.cuh"

namespace clof::cuda {

constexpr int kBlockThreads = kForwardWarps * kWarp;
static_assert(kBackwardWarps == kForwardWarps && kNodeWarps == kForwardWarps, "all kernels have blocks of one size");

// Blocks that a multiprocessor holds at a time: registers for two of the narrow forward pass, else for one.
template <int Width> constexpr int kForwardBlocks = Width <= kNarrow ? 2 : 1;

template <class Kind> __global__ void __launch_bounds__(kBlockThreads) pack_kernel(const __grid_constant__ PackJobs a) {
  pack<Kind>(a);
}
template <class Kind, int Width>
__global__ void __launch_bounds__(kBlockThreads) node_linear_kernel(const __grid_constant__ NodeLinear a) {
  node_linear<Kind, Width>(a);
}
template <class Kind, int Width> __global__ void __launch_bounds__(kBlockThreads, kForwardBlocks<Width>)
    forward_kernel(const __grid_constant__ EdgeBlock a) {
  forward<Kind, Width>(a);
}
template <class Kind, int Width>
__global__ void __launch_bounds__(kBlockThreads) forward_join_kernel(const __grid_constant__ EdgeBlock a, int64_t warps) {
  forward_join<Kind, Width>(a, warps);
}
template <class Kind, int Width> __global__ void __launch_bounds__(kBlockThreads, 1)
    backward_kernel(const __grid_constant__ EdgeBlockGradients a) {
  backward<Kind, Width>(a);
}
template <int Width> __global__ void __launch_bounds__(kBlockThreads)
    backward_join_kernel(const __grid_constant__ EdgeBlockGradients a, int64_t warps) {
  backward_join<Width>(a, warps);
}
template <class Kind>
__global__ void __launch_bounds__(kBlockThreads) stack_kernel(const __grid_constant__ StackedWeights a) {
  stack_weights<Kind>(a);
}
template <class Kind>
__global__ void __launch_bounds__(kBlockThreads) finish_kernel(const __grid_constant__ FinishJobs a) {
  finish_gradients<Kind>(a);
}
// Kernels that know nothing of the kind of number are made once for each.
template <class Kind> __global__ void __launch_bounds__(kBlockThreads) places_kernel(const __grid_constant__ SenderSums a) {
  find_places(a);
}
template <class Kind, int Width>
__global__ void __launch_bounds__(kBlockThreads) senders_kernel(const __grid_constant__ SenderSums a) {
  sum_senders<Width>(a);
}

template <class... Parameters, class... Arguments>
void start(void (*kernel)(Parameters...), int64_t blocks, int shared, const Stream& stream, const Arguments&... a) {
  if (blocks == 0) return;
  constexpr int kWithoutAsking = 48 << 10;
  if (shared > kWithoutAsking) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  }
  kernel<<<unsigned(blocks), kBlockThreads, shared, handle(stream)>>>(a...);
  check_launch();
}

// Blocks of a thread for each item, but no more than fill a GPU.
inline int64_t blocks_of_threads(int64_t items) {
  return std::min<int64_t>((items + kBlockThreads - 1) / kBlockThreads, kMaxBlocks);
}

template <class Kind, int Width>
void prepare(const FrameMessageProblem& p, const Image& image, char* weights, char* parts, const Stream& stream) {
  const Packer packer(p, image, weights);
  start(pack_kernel<Kind>, packer.jobs().num_matrices + 1, 0, stream, packer.jobs());
  const int64_t rows = kNodeWarps * kRows;
  start(node_linear_kernel<Kind, Width>, 2 * ((p.graph.num_nodes + rows - 1) / rows),
        Width * kNodeColumns * number_bytes(p), stream, node_linear_of(p, parts));
}

template <class Kind, int Width> struct ForwardPass {
  static int64_t num_blocks(const FrameMessageProblem& p, int multiprocessors) {
    return num_blocks_for(p.graph.num_edges, int64_t(multiprocessors) * kForwardBlocks<Width>, kForwardWarps);
  }

  static int64_t bytes(const FrameMessageProblem& p, int multiprocessors) {
    return ForwardMemory(p, num_blocks(p, multiprocessors) * kForwardWarps).total;
  }

  static void run(const FrameMessageProblem& p, int multiprocessors, char* memory, const Stream& stream) {
    const int64_t blocks = num_blocks(p, multiprocessors), warps = blocks * kForwardWarps;
    if (blocks == 0) return;
    const ForwardMemory places(p, warps);
    const Image image = image_of(p, false);
    prepare<Kind, Width>(p, image, memory + places.image, memory + places.parts, stream);
    EdgeBlock a = edge_block_of(p, image);
    a.image = memory + places.image;
    a.parts = memory + places.parts;
    a.partial = reinterpret_cast<float*>(memory + places.partial);
    start(forward_kernel<Kind, Width>, blocks, ForwardPlace<Kind, Width>::bytes(image), stream, a);
    start(forward_join_kernel<Kind, Width>, blocks, 0, stream, a, warps);
  }
};

template <class Kind, int Width> struct BackwardPass {
  static int64_t num_blocks(const FrameMessageProblem& p, int multiprocessors) {
    return num_blocks_for(chunk_edges(p), multiprocessors, kBackwardWarps);
  }

  static int64_t bytes(const FrameMessageProblem& p, int multiprocessors) {
    return BackwardMemory(p, num_blocks(p, multiprocessors), chunk_edges(p)).total;
  }

  // All gradients but those that products at nodes make; `sums` points to the sums of weights' gradients then.
  static void run(const FrameMessageProblem& p, int multiprocessors, char* memory, void* stacked, float* grad_parts,
                  const Stream& stream) {
    const int64_t chunk = chunk_edges(p), blocks = num_blocks(p, multiprocessors), warps = blocks * kBackwardWarps;
    const StackedWeights weights = stacked_weights_of(p, stacked);
    start(stack_kernel<Kind>, blocks_of_threads(2 * int64_t(weights.width) * weights.features), 0, stream, weights);
    if (blocks == 0) return;
    const BackwardMemory places(p, blocks, chunk);
    const Image image = image_of(p, true);
    prepare<Kind, Width>(p, image, memory + places.image, memory + places.parts, stream);
    EdgeBlockGradients g = {};
    g.block = edge_block_of(p, image);
    g.block.image = memory + places.image;
    g.block.parts = memory + places.parts;
    g.block.partial = reinterpret_cast<float*>(memory + places.partial);
    g.grad_message = p.grad_message;
    g.grad_vector = static_cast<const float*>(p.grad_vector);
    g.grad_parts = grad_parts;
    g.grad_pos = static_cast<float*>(p.grad_pos);
    g.grad_edge_attr = p.grad_edge_attr;
    g.grad_edge_weight = p.grad_edge_weight;
    g.rows = reinterpret_cast<float*>(memory + places.rows);
    g.sums = reinterpret_cast<float*>(memory + places.sums);
    g.places = SumPlaces::of(image);
    SenderSums senders = {p.graph,    reinterpret_cast<int32_t*>(memory + places.place_of), 0, 0, g.rows,
                          grad_parts, g.grad_pos};
    start(places_kernel<Kind>, blocks_of_threads(p.graph.num_edges), 0, stream, senders);
    for (int64_t begin = 0; begin < p.graph.num_edges; begin += chunk) {
      g.block.begin = senders.begin = begin;
      g.block.end = senders.end = std::min(begin + chunk, p.graph.num_edges);
      start(backward_kernel<Kind, Width>, blocks, backward_shared_bytes<Kind, Width>(image), stream, g);
      start(backward_join_kernel<Width>, blocks, 0, stream, g, warps);
      start(senders_kernel<Kind, Width>, (p.graph.num_nodes + kForwardWarps - 1) / kForwardWarps, 0, stream, senders);
      g.sums += blocks * g.places.total;
    }
  }

  static void finish(const FrameMessageProblem& p, int multiprocessors, const char* memory, const void* node_gradient,
                     const Stream& stream) {
    const int64_t chunk = chunk_edges(p), blocks = num_blocks(p, multiprocessors);
    const BackwardMemory places(p, blocks, chunk);
    const SumPlaces sums = SumPlaces::of(image_of(p, true));
    const Finisher finisher(p, sums, reinterpret_cast<const float*>(memory + places.sums),
                            BackwardMemory::num_chunks(p, chunk) * blocks, node_gradient);
    start(finish_kernel<Kind>, finisher.jobs().num_parts * FinishJobs::kBlocks, 0, stream, finisher.jobs());
  }
};

}  // namespace clof::cuda
