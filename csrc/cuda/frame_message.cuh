// Launches of the edge block's kernels for one kind of number; frame_message_<kind>.cu makes them.
#pragma once

#include "edge_block.h"
#include "frame_message.h"
#include "launch.cuh"

namespace clof::cuda {

constexpr int kBlockThreads = kForwardWarps * kWarp;
static_assert(kBlockThreads == kThreads, "blocks are those of launch.cuh");
static_assert(kBackwardWarps == kForwardWarps && kNodeWarps == kForwardWarps, "all kernels have blocks of one size");

template <class Kind, int Width> __global__ void __launch_bounds__(kBlockThreads)
    prepare_kernel(const __grid_constant__ PrepareJobs jobs) {
  prepare<Kind, Width>(jobs);
}
template <class Kind, class Function, int Width> __global__ void __launch_bounds__(kBlockThreads, 1)
    forward_kernel(const __grid_constant__ EdgeBlock a) {
  forward<Kind, Function, Width>(a);
}
template <class Kind, int Width> __global__ void __launch_bounds__(kBlockThreads)
    forward_join_kernel(const __grid_constant__ EdgeBlock a, int warps) {
  forward_join<Kind, Width>(a, warps);
}
template <class Kind, class Function, int Width> __global__ void __launch_bounds__(kBlockThreads, 1)
    backward_kernel(const __grid_constant__ EdgeBlockGradients a) {
  backward<Kind, Function, Width>(a);
}
// The kind of number has nothing to do with this; it gives each of the files that make it its own.
template <class Kind, int Width> __global__ void __launch_bounds__(kBlockThreads)
    nodes_kernel(const __grid_constant__ EdgeBlockGradients a, const __grid_constant__ SenderSums senders, int warps) {
  sum_nodes<Width>(a, senders, warps);
}
template <class Kind> __global__ void __launch_bounds__(kBlockThreads)
    finish_kernel(const __grid_constant__ FinishJobs a) {
  finish_gradients<Kind>(a);
}

template <class Kind, int Width> void start_preparation(const PrepareJobs& jobs, const Stream& stream) {
  start(prepare_kernel<Kind, Width>, jobs.num_blocks(), Width * kNodeColumns * int(sizeof(typename Kind::Stored)),
        stream, jobs);
}

template <class Kind, int Width> struct ForwardPass {
  static int64_t num_blocks(const FrameMessageProblem& p, int multiprocessors) {
    return num_blocks_for(p.graph.num_edges, multiprocessors, kForwardWarps * kForwardEdges<Width>);
  }

  static int64_t bytes(const FrameMessageProblem& p, int multiprocessors) {
    return ForwardMemory(p, num_blocks(p, multiprocessors) * kForwardWarps).total;
  }

  static void run(const FrameMessageProblem& p, int multiprocessors, char* memory, const Stream& stream);
};

template <class Kind, int Width> struct BackwardPass {
  static int64_t num_blocks(const FrameMessageProblem& p, int multiprocessors) {
    return num_blocks_for(chunk_edges(p, multiprocessors), multiprocessors, kBlockEdges);
  }

  static int64_t bytes(const FrameMessageProblem& p, int multiprocessors) {
    return BackwardMemory(p, num_blocks(p, multiprocessors), chunk_edges(p, multiprocessors)).total;
  }

  // All gradients but those that products at nodes make.
  static void run(const FrameMessageProblem& p, int multiprocessors, char* memory, void* stacked, float* grad_parts,
                  const Stream& stream);
  static void finish(const FrameMessageProblem& p, int multiprocessors, const char* memory, const void* node_gradient,
                     const Stream& stream);
};

// What launches kernels stands outside of the structs: within, each file that calls it would make the kernels again.

template <class Kind, int Width> void ForwardPass<Kind, Width>::run(const FrameMessageProblem& p, int multiprocessors,
                                                                    char* memory, const Stream& stream) {
  const int64_t blocks = num_blocks(p, multiprocessors), warps = blocks * kForwardWarps;
  const ForwardMemory places(p, warps);
  const Image image = image_of(p, false);
  start_preparation<Kind, Width>(forward_preparation(p, image, memory, places), stream);
  const EdgeBlock a = forward_block_of(p, image, memory, places);
  const int shared = ForwardPlace<Kind, Width>::bytes(image);
  if (p.activation == Activation::silu) start(forward_kernel<Kind, SiluOf<Kind>, Width>, blocks, shared, stream, a);
  else start(forward_kernel<Kind, AnyOther, Width>, blocks, shared, stream, a);
  start(forward_join_kernel<Kind, Width>, blocks, 0, stream, a, int(warps));
}

template <class Kind, int Width> void BackwardPass<Kind, Width>::run(const FrameMessageProblem& p, int multiprocessors,
                                                                     char* memory, void* stacked, float* grad_parts,
                                                                     const Stream& stream) {
  const int64_t chunk = chunk_edges(p, multiprocessors), blocks = num_blocks(p, multiprocessors);
  const BackwardMemory places(p, blocks, chunk);
  const Image image = image_of(p, true);
  EdgeBlockGradients g = gradients_of(p, image, memory, places, grad_parts);
  SenderSums senders = senders_of(g, memory, places);
  start_preparation<Kind, Width>(
      backward_preparation(p, image, memory, places, stacked_weights_of(p, stacked), senders), stream);
  const int shared = backward_shared_bytes<Kind, Width>(image);
  for (int64_t begin = 0; begin < p.graph.num_edges; begin += chunk) {
    take_chunk(g, senders, begin, chunk);
    if (p.activation == Activation::silu) start(backward_kernel<Kind, SiluOf<Kind>, Width>, blocks, shared, stream, g);
    else start(backward_kernel<Kind, AnyOther, Width>, blocks, shared, stream, g);
    start(nodes_kernel<Kind, Width>, (p.graph.num_nodes + kBackwardWarps - 1) / kBackwardWarps, 0, stream, g, senders,
          int(blocks * kBackwardWarps));
  }
}

template <class Kind, int Width>
void BackwardPass<Kind, Width>::finish(const FrameMessageProblem& p, int multiprocessors, const char* memory,
                                       const void* node_gradient, const Stream& stream) {
  const int64_t chunk = chunk_edges(p, multiprocessors), blocks = num_blocks(p, multiprocessors);
  const BackwardMemory places(p, blocks, chunk);
  const SumPlaces sums = SumPlaces::of(image_of(p, true));
  const Finisher finisher(p, sums, reinterpret_cast<const float*>(memory + places.sums), blocks, node_gradient);
  start(finish_kernel<Kind>, finisher.jobs().num_parts * FinishJobs::kBlocks, 0, stream, finisher.jobs());
}

}  // namespace clof::cuda
