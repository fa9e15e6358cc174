// The CUDA kernels of frame_message on an emulated GPU, as functions that Python calls: tests/cuda/emulated.py.
#include "../../csrc/cuda/edge_block.h"

#include <algorithm>
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

template <class Kind> void prepare(const FrameMessageProblem& p, const Image& image, char* weights, char* parts) {
  const Packer packer(p, image, weights);
  const PackJobs& jobs = packer.jobs();
  launch(jobs.num_matrices + 1, kBlockThreads, 0, [&] { pack<Kind>(jobs); });
  const NodeLinear nodes = node_linear_of(p, parts);
  const int64_t rows = kNodeWarps * kRows, blocks = 2 * ((nodes.nodes + rows - 1) / rows);
  const int width = padded_hidden(p);
  const size_t bytes = size_t(width) * kNodeColumns * number_bytes(p);
  launch(int(blocks), kNodeWarps * kWarp, bytes, [&] {
    if (width == kNarrow) node_linear<Kind, kNarrow>(nodes);
    else node_linear<Kind, kWide>(nodes);
  });
}

template <class Kind, int Width> void run_forward(const FrameMessageProblem& p, int64_t most_blocks) {
  const Image image = image_of(p, false);
  const int64_t blocks = num_blocks_for(p.graph.num_edges, most_blocks, kForwardWarps), warps = blocks * kForwardWarps;
  const ForwardMemory places(p, warps);
  Memory memory(places.total);
  prepare<Kind>(p, image, memory.at(places.image), memory.at(places.parts));
  EdgeBlock a = edge_block_of(p, image);
  a.image = memory.at(places.image);
  a.parts = memory.at(places.parts);
  a.partial = reinterpret_cast<float*>(memory.at(places.partial));
  launch(int(blocks), kBlockThreads, size_t(ForwardPlace<Kind, Width>::bytes(image)), [&] { forward<Kind, Width>(a); });
  launch(int(blocks), kBlockThreads, 0, [&] { forward_join<Kind, Width>(a, warps); });
}

template <class Kind> void run_forward(const FrameMessageProblem& p, int64_t most_blocks) {
  if (padded_hidden(p) == kNarrow) run_forward<Kind, kNarrow>(p, most_blocks);
  else run_forward<Kind, kWide>(p, most_blocks);
}

// `stacked` and `grad_parts` are the operands of the products at nodes, which the host makes between the two calls.
template <class Kind> void run_backward(const FrameMessageProblem& p, int64_t most_blocks, int64_t row_bytes,
                                        void* stacked, float* grad_parts, float* sums, int64_t* num_sums) {
  constexpr int kWidth = kNarrow;
  const Image image = image_of(p, true);
  const int64_t chunk = chunk_edges(p, row_bytes), blocks = num_blocks_for(chunk, most_blocks, kBackwardWarps);
  const int64_t warps = blocks * kBackwardWarps;
  const BackwardMemory places(p, blocks, chunk);
  Memory memory(places.total);
  prepare<Kind>(p, image, memory.at(places.image), memory.at(places.parts));
  const StackedWeights weights = stacked_weights_of(p, stacked);
  launch(2, kBlockThreads, 0, [&] { stack_weights<Kind>(weights); });
  EdgeBlockGradients g = {};
  g.block = edge_block_of(p, image);
  g.block.image = memory.at(places.image);
  g.block.parts = memory.at(places.parts);
  g.block.partial = reinterpret_cast<float*>(memory.at(places.partial));
  g.grad_message = p.grad_message;
  g.grad_vector = static_cast<const float*>(p.grad_vector);
  g.grad_parts = grad_parts;
  g.grad_pos = static_cast<float*>(p.grad_pos);
  g.grad_edge_attr = p.grad_edge_attr;
  g.grad_edge_weight = p.grad_edge_weight;
  g.rows = reinterpret_cast<float*>(memory.at(places.rows));
  g.places = SumPlaces::of(image);
  g.sums = sums;
  SenderSums senders = {p.graph,  reinterpret_cast<int32_t*>(memory.at(places.place_of)), 0, 0, g.rows, grad_parts,
                        g.grad_pos};
  launch(2, kBlockThreads, 0, [&] { find_places(senders); });
  const size_t shared = size_t(backward_shared_bytes<Kind, kWidth>(image));
  *num_sums = 0;
  for (int64_t begin = 0; begin < p.graph.num_edges; begin += chunk) {
    g.block.begin = senders.begin = begin;
    g.block.end = senders.end = std::min(begin + chunk, p.graph.num_edges);
    launch(int(blocks), kBlockThreads, shared, [&] { backward<Kind, kWidth>(g); });
    launch(int(blocks), kBlockThreads, 0, [&] { backward_join<kWidth>(g, warps); });
    const int64_t node_blocks = (p.graph.num_nodes + kForwardWarps - 1) / kForwardWarps;
    launch(int(node_blocks), kBlockThreads, 0, [&] { sum_senders<kWidth>(senders); });
    g.sums += blocks * g.places.total;
    *num_sums += blocks;
  }
}

template <class Kind> void run_finish(const FrameMessageProblem& p, const float* sums, int64_t num_sums,
                                      const void* node_gradient) {
  const SumPlaces places = SumPlaces::of(image_of(p, true));
  const Finisher finisher(p, places, sums, num_sums, node_gradient);
  const FinishJobs& jobs = finisher.jobs();
  launch(jobs.num_parts * FinishJobs::kBlocks, kBlockThreads, 0, [&] { finish_gradients<Kind>(jobs); });
}

template <class Body> void with_kind(const FrameMessageProblem& p, bool descending, const Body& body) {
  emulated::descending = descending;
  if (p.storage == Storage::bfloat16) body(BFloat16Kind());
  else if (p.storage == Storage::float16) body(Float16Kind());
  else if (p.precision == MatmulPrecision::highest) body(Tf32x3());
  else body(Tf32());
}

}  // namespace
}  // namespace clof::cuda

// `p` as csrc/functor/arguments.h lays it out.
extern "C" void emulated_forward(const clof::FrameMessageProblem* p, int64_t most_blocks, int descending) {
  clof::cuda::with_kind(*p, descending, [&](auto kind) { clof::cuda::run_forward<decltype(kind)>(*p, most_blocks); });
}

// How many numbers a block's sums of weights' gradients are.
extern "C" int64_t emulated_sums(const clof::FrameMessageProblem* p) {
  return clof::cuda::SumPlaces::of(clof::cuda::image_of(*p, true)).total;
}

extern "C" void emulated_backward(const clof::FrameMessageProblem* p, int64_t most_blocks, int64_t row_bytes,
                                  int descending, void* stacked, float* grad_parts, float* sums, int64_t* num_sums) {
  clof::cuda::with_kind(*p, descending, [&](auto kind) {
    clof::cuda::run_backward<decltype(kind)>(*p, most_blocks, row_bytes, stacked, grad_parts, sums, num_sums);
  });
}

extern "C" void emulated_finish(const clof::FrameMessageProblem* p, const float* sums, int64_t num_sums,
                                const void* node_gradient) {
  clof::cuda::with_kind(*p, false, [&](auto kind) {
    clof::cuda::run_finish<decltype(kind)>(*p, sums, num_sums, node_gradient);
  });
}
