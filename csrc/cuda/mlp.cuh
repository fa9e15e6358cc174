// Launches of the perceptron's kernels for one kind of number; mlp_<kind>.cu makes them.
#pragma once

#include "device.cuh"
#include "launch.cuh"
#include "mlp.h"
#include "mlp_call.h"

namespace clof::cuda {

static_assert(kThreads == kMlpWarps * kWarp, "blocks are those of launch.cuh");

// Blocks that a multiprocessor holds at a time: registers for two of the narrow forward pass, else for one.
template <int Width> constexpr int kMlpForwardBlocks = Width <= kNarrowMlp ? 2 : 1;

template <class Kind, int Width, class Function> __global__ void __launch_bounds__(kThreads, kMlpForwardBlocks<Width>)
    mlp_forward_kernel(const __grid_constant__ Mlp a) {
  mlp_forward<Kind, Width, Function>(a);
}
template <class Kind, int Width, class Function> __global__ void __launch_bounds__(kThreads, 1)
    mlp_backward_kernel(const __grid_constant__ MlpGradient g) {
  mlp_backward<Kind, Width, Function>(g);
}
template <class Kind> __global__ void __launch_bounds__(kThreads)
    mlp_finish_kernel(const __grid_constant__ FinishJobs a) {
  finish_gradients<Kind>(a);
}

inline int64_t mlp_backward_blocks(const MlpProblem& p) { return mlp_blocks(p.rows, multiprocessors(), true); }

template <class Kind> struct MlpLaunches {
  template <class Function> static void forward(const MlpProblem& p, const Stream& stream) {
    if (mlp_pass(p, false).width == kNarrowMlp) forward<kNarrowMlp, Function>(p, stream);
    else forward<kWideMlp, Function>(p, stream);
  }

  template <int Width, class Function> static void forward(const MlpProblem& p, const Stream& stream) {
    const Mlp a = mlp_of(p, false);
    const int shared = int(a.layout.bytes), held = device_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
    const int reserved = device_attribute(cudaDevAttrReservedSharedMemoryPerBlock);
    const int per_multiprocessor = std::min(kMlpForwardBlocks<Width>, held / (shared + reserved));
    start(mlp_forward_kernel<Kind, Width, Function>, mlp_blocks(p.rows, multiprocessors() * per_multiprocessor, false),
          shared, stream, a);
  }

  template <class Function> static void backward(const MlpProblem& p, float* sums, const Stream& stream) {
    const MlpGradient g = {mlp_of(p, true), sums, mlp_sum_places(p, kNarrowMlp)};
    start(mlp_backward_kernel<Kind, kNarrowMlp, Function>, mlp_backward_blocks(p), int(g.mlp.layout.bytes), stream, g);
  }

  static void finish(const MlpProblem& p, const float* sums, const Stream& stream) {
    const FinishJobs jobs = mlp_finish_jobs(p, sums, mlp_backward_blocks(p));
    start(mlp_finish_kernel<Kind>, jobs.num_parts * FinishJobs::kBlocks, 0, stream, jobs);
  }

  // What mlp.cu calls.
  static void run_forward(const MlpProblem& p, const Stream& stream);
  static void run_backward(const MlpProblem& p, float* sums, const Stream& stream);
};

template <class Kind> void MlpLaunches<Kind>::run_forward(const MlpProblem& p, const Stream& stream) {
  if (p.activation == Activation::silu) forward<SiluOf<Kind>>(p, stream);
  else forward<AnyOther>(p, stream);
}

template <class Kind> void MlpLaunches<Kind>::run_backward(const MlpProblem& p, float* sums, const Stream& stream) {
  if (p.activation == Activation::silu) backward<SiluOf<Kind>>(p, sums, stream);
  else backward<AnyOther>(p, sums, stream);
  finish(p, sums, stream);
}

}  // namespace clof::cuda
