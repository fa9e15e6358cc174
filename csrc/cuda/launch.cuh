// Runs the functors of csrc/functor on a CUDA stream, the same bodies that csrc/cpu/kernels/loops.h runs, one edge a
// thread; and the kernels of csrc/cuda/geometry, which share their work out in other ways. A node's sum is made in one
// place, in an order that is always the same: no atomics, the same bits every time.
#pragma once

#include <algorithm>

#include "../check.h"
#include "../functor/arguments.h"
#include "stream.h"

namespace clof::cuda {

constexpr int kThreads = 256;
// Enough blocks to fill any GPU; each thread takes further items in steps of the grid.
constexpr int64_t kMaxBlocks = 1 << 16;

// Channels [first, last) of an item: all of them, or the one that this thread has.
struct Channels {
  int64_t count;
  bool split;

  __host__ __device__ int64_t parts() const { return split ? count : 1; }
};

template <class T, class Functor> __global__ void map_kernel(Functor functor, int64_t edges, Channels channels) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < edges * channels.parts(); i += step) {
    const int64_t edge = i / channels.parts(), part = i % channels.parts();
    functor.template operator()<T>(edge, part, channels.split ? part + 1 : channels.count);
  }
}

template <class T, class Functor>
__global__ void sum_kernel(Functor functor, const int32_t* start, int64_t nodes, Channels channels) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < nodes * channels.parts(); i += step) {
    const int64_t node = i / channels.parts(), part = i % channels.parts();
    for (int64_t p = start[node]; p < start[node + 1]; ++p) {
      functor.template operator()<T>(p, part, channels.split ? part + 1 : channels.count);
    }
  }
}

// A kernel of csrc/cuda/geometry, which finds its threads and its shared memory by warp.cuh. It says how many of its
// blocks its registers leave room for on a multiprocessor.
template <int Threads, class Kernel> __global__ void __launch_bounds__(Threads, Kernel::blocks_at_once)
    tile_kernel(Kernel kernel) {
  kernel();
}

template <class Functor> __global__ void item_kernel(Functor functor, int64_t items, int64_t width) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < items * width; i += step) {
    functor(i / width, i % width);
  }
}

inline int blocks(int64_t items) { return int(std::min((items + kThreads - 1) / kThreads, kMaxBlocks)); }

inline void check_launch() {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) check::fail("a CUDA kernel could not be started: ", cudaGetErrorString(error), ".");
}

inline cudaStream_t handle(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle()); }

// What a kernel may use of shared memory without asking.
constexpr int kPlainSharedBytes = 48 << 10;

template <class Kernel> void allow_shared(Kernel* kernel, int bytes) {
  if (bytes > kPlainSharedBytes) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

inline int64_t quotient_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

template <int Threads, class Kernel>
void launch_tiles(const Kernel& kernel, int64_t blocks, int shared_bytes, const Stream& stream) {
  if (blocks == 0) return;
  allow_shared(tile_kernel<Threads, Kernel>, shared_bytes);
  const int grid = int(std::min(blocks, kMaxBlocks));
  tile_kernel<Threads><<<grid, Threads, shared_bytes, handle(stream)>>>(kernel);
  check_launch();
}

template <class T, class Functor>
void launch_map(const Functor& functor, const Graph& graph, Channels channels, const Stream& stream) {
  const int64_t items = graph.num_edges * channels.parts();
  if (items == 0) return;
  map_kernel<T><<<blocks(items), kThreads, 0, handle(stream)>>>(functor, graph.num_edges, channels);
  check_launch();
}

template <class T, class Functor>
void launch_sum(const Functor& functor, const Graph& graph, Place role, Channels channels, const Stream& stream) {
  const int64_t items = graph.num_nodes * channels.parts();
  if (items == 0) return;
  const int32_t* start = role == Place::receiver ? graph.receiver_start : graph.sender_start;
  sum_kernel<T><<<blocks(items), kThreads, 0, handle(stream)>>>(functor, start, graph.num_nodes, channels);
  check_launch();
}

template <class Functor> void launch_items(const Functor& functor, int64_t items, int64_t width, const Stream& stream) {
  if (items * width == 0) return;
  item_kernel<<<blocks(items * width), kThreads, 0, handle(stream)>>>(functor, items, width);
  check_launch();
}

// A kernel whose blocks have kThreads threads and so many bytes of shared memory.
template <class... Parameters, class... Arguments>
void start(void (*kernel)(Parameters...), int64_t blocks, int shared, const Stream& stream, const Arguments&... a) {
  if (blocks == 0) return;
  allow_shared(kernel, shared);
  kernel<<<unsigned(blocks), kThreads, shared, handle(stream)>>>(a...);
  check_launch();
}

}  // namespace clof::cuda
