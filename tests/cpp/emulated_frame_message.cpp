// The CUDA kernels of frame_message on an emulated GPU, as functions that Python calls: tests/cuda/emulated.py.
#include "../../csrc/cuda/edge_block.h"
#include "../../csrc/cuda/tile/with_kind.h"

#include <cstring>
#include <vector>

namespace clof::cuda {
namespace {

constexpr int kBlockThreads = kForwardWarps * kWarp;

// Memory as cudaMalloc gives it, filled so that what was never written is seen.
struct Memory {
  std::vector<uint4> words;

  explicit Memory(int64_t bytes) : words(size_t(bytes / 16 + 1)) { std::memset(words.data(), 0xff, words.size() * 16); }
  char* at(int64_t offset) { return reinterpret_cast<char*>(words.data()) + offset; }
};

template <class Kind, int Width> void run_preparation(const PrepareJobs& jobs) {
  const size_t bytes = size_t(Width) * kNodeColumns * sizeof(typename Kind::Stored);
  launch(int(jobs.num_blocks()), kBlockThreads, bytes, [&] { prepare<Kind, Width>(jobs); });
}

template <class Kind, int Width> void run_forward(const FrameMessageProblem& p, int64_t most_blocks) {
  const Image image = image_of(p, false);
  const int64_t blocks = num_blocks_for(p.graph.num_edges, most_blocks, kForwardWarps * kForwardEdges<Width>);
  const int64_t warps = blocks * kForwardWarps;
  const ForwardMemory places(p, warps);
  Memory memory(places.total);
  run_preparation<Kind, Width>(forward_preparation(p, image, memory.at(0), places));
  const EdgeBlock a = forward_block_of(p, image, memory.at(0), places);
  launch(int(blocks), kBlockThreads, size_t(ForwardPlace<Kind, Width>::bytes(image)), [&] {
    if (p.activation == Activation::silu) forward<Kind, SiluOf<Kind>, Width>(a);
    else forward<Kind, AnyOther, Width>(a);
  });
  launch(int(blocks), kBlockThreads, 0, [&] { forward_join<Kind, Width>(a, warps); });
}

template <class Kind> void run_forward(const FrameMessageProblem& p, int64_t most_blocks) {
  if (padded_hidden(p) == kNarrow) run_forward<Kind, kNarrow>(p, most_blocks);
  else run_forward<Kind, kWide>(p, most_blocks);
}

// `stacked` and `grad_parts` are the operands of the products at nodes, which the host makes between the two calls.
template <class Kind> void run_backward(const FrameMessageProblem& p, int64_t most_blocks, int64_t row_bytes,
                                        void* stacked, float* grad_parts, float* sums) {
  constexpr int kWidth = kNarrow;
  const Image image = image_of(p, true);
  const int64_t chunk = chunk_edges(p, most_blocks, row_bytes);
  const int64_t blocks = num_blocks_for(chunk, most_blocks, kBlockEdges), warps = blocks * kBackwardWarps;
  const BackwardMemory places(p, blocks, chunk);
  Memory memory(places.total);
  EdgeBlockGradients g = gradients_of(p, image, memory.at(0), places, grad_parts);
  g.sums = sums;
  SenderSums senders = senders_of(g, memory.at(0), places);
  run_preparation<Kind, kWidth>(
      backward_preparation(p, image, memory.at(0), places, stacked_weights_of(p, stacked), senders));
  const size_t shared = size_t(backward_shared_bytes<Kind, kWidth>(image));
  for (int64_t begin = 0; begin < p.graph.num_edges; begin += chunk) {
    take_chunk(g, senders, begin, chunk);
    launch(int(blocks), kBlockThreads, shared, [&] {
      if (p.activation == Activation::silu) backward<Kind, SiluOf<Kind>, kWidth>(g);
      else backward<Kind, AnyOther, kWidth>(g);
    });
    const int64_t node_blocks = (p.graph.num_nodes + kBackwardWarps - 1) / kBackwardWarps;
    launch(int(node_blocks), kBlockThreads, 0, [&] { sum_nodes<kWidth>(g, senders, int(warps)); });
  }
}

template <class Kind>
void run_finish(const FrameMessageProblem& p, const float* sums, int64_t num_sums, const void* node_gradient) {
  const SumPlaces places = SumPlaces::of(image_of(p, true));
  const Finisher finisher(p, places, sums, num_sums, node_gradient);
  const FinishJobs& jobs = finisher.jobs();
  launch(jobs.num_parts * FinishJobs::kBlocks, kBlockThreads, 0, [&] { finish_gradients<Kind>(jobs); });
}

}  // namespace
}  // namespace clof::cuda

// `p` as csrc/functor/arguments.h lays it out.
extern "C" void emulated_forward(const clof::FrameMessageProblem* p, int64_t most_blocks, int descending) {
  clof::cuda::emulated::descending = descending;
  clof::cuda::with_kind(*p, [&](auto kind) { clof::cuda::run_forward<decltype(kind)>(*p, most_blocks); });
}

// How many numbers a block's sums of weights' gradients are.
extern "C" int64_t emulated_sums(const clof::FrameMessageProblem* p) {
  return clof::cuda::SumPlaces::of(clof::cuda::image_of(*p, true)).total;
}

extern "C" void emulated_backward(const clof::FrameMessageProblem* p, int64_t most_blocks, int64_t row_bytes,
                                  int descending, void* stacked, float* grad_parts, float* sums) {
  clof::cuda::emulated::descending = descending;
  clof::cuda::with_kind(*p, [&](auto kind) {
    clof::cuda::run_backward<decltype(kind)>(*p, most_blocks, row_bytes, stacked, grad_parts, sums);
  });
}

// The number of blocks is that of the backward pass.
extern "C" void emulated_finish(const clof::FrameMessageProblem* p, int64_t most_blocks, int64_t row_bytes,
                                const float* sums, const void* node_gradient) {
  const int64_t chunk = clof::cuda::chunk_edges(*p, most_blocks, row_bytes);
  const int64_t num_sums = clof::cuda::num_blocks_for(chunk, most_blocks, clof::cuda::kBlockEdges);
  clof::cuda::emulated::descending = false;
  clof::cuda::with_kind(*p,
                        [&](auto kind) { clof::cuda::run_finish<decltype(kind)>(*p, sums, num_sums, node_gradient); });
}
