#include "frame_message.h"

#include "../tile/edge_block_forward.h"
#include "../tile/edge_block_second.h"
#include "../tile/edge_block_weights.h"
#include "kernels_of_isa.h"

namespace clof {
namespace CLOF_ISA {

template <class T> void pack(const FrameMessageArguments& a) {
  Arena arena(a.shared);
  Weights<T> weights(a, arena);
  // Padding is 0 everywhere; without it all of a matrix is written.
  std::memset(a.shared, 0, Widths<T>(a).any_padding(a) ? arena.used() : weights.vector_bytes);
  const WeightTensors<T> tensors(a);
  tensors.read(weights);
  tensors.finish_all(weights);
}

// Calls body with the block of the backward pass, or of its derivative.
template <class T, class Body>
void with_block(const FrameMessageArguments& a, const FrameMessageWork& work, const Body& body) {
  if (a.second) {
    SecondBlock<T> block(a, work.worker, work.item);
    body(block);
  } else {
    BackwardBlock<T> block(a, work.worker, work.item);
    body(block);
  }
}

template <class T> void nodes(const FrameMessageArguments& a, const FrameMessageWork& work) {
  {
    ForwardBlock<T> block(a, work.worker, work.item);
    block.nodes();
    if (a.second) block.node_tangents();
  }
  if (a.backward) with_block<T>(a, work, [](auto& block) { block.clear(); });
}

// A chunk from its nodes to messages, or back to its nodes.
template <class T> void closed(const FrameMessageArguments& a, const FrameMessageWork& work) {
  nodes<T>(a, work);
  if (!a.backward) return ForwardBlock<T>(a, work.worker, work.item).receivers();
  with_block<T>(a, work, [](auto& block) {
    block.edges(0);
    block.nodes();
  });
}

template <class T>
void add_sums(const FrameMessageArguments& a, FrameMessageStage stage, const FrameMessageWork& work) {
  BackwardBlock<T> block(a, work.worker, work.item);
  if (stage == FrameMessageStage::add_edge_sums) return block.add_sums(block.of_edges());
  if (stage == FrameMessageStage::add_node_sums) return block.add_sums(block.of_nodes());
  return block.add_sums(block.of_all());
}

template <class T> void run(const FrameMessageArguments& a, FrameMessageStage stage, const FrameMessageWork& work) {
  switch (stage) {
    case FrameMessageStage::pack: return pack<T>(a);
    case FrameMessageStage::closed: return closed<T>(a, work);
    case FrameMessageStage::nodes: return nodes<T>(a, work);
    case FrameMessageStage::forward: return ForwardBlock<T>(a, work.worker, work.item).receivers();
    case FrameMessageStage::backward: return with_block<T>(a, work, [&](auto& block) { block.edges(work.wave); });
    case FrameMessageStage::senders: return add_to_senders<T>(a, work.wave, work.item);
    case FrameMessageStage::grad_nodes: return with_block<T>(a, work, [](auto& block) { block.nodes(); });
    case FrameMessageStage::add_edge_sums:
    case FrameMessageStage::add_node_sums:
    case FrameMessageStage::add_sums: return add_sums<T>(a, stage, work);
    case FrameMessageStage::sum_weights:
      return sum_pieces<T>(Shared<T>(a).group_sums, WeightGradients<T>::bytes(a), sum_groups(a.chunks.count), work.item,
                           kFrameMessageSlices);
    case FrameMessageStage::grad_weights:
      return WeightTensors<T>(a).write(WeightGradients<T>::at(a, Shared<T>(a).group_sums));
  }
}

FrameMessageMemory frame_message_memory(const FrameMessageArguments& a) {
  return a.dtype == Storage::float64 ? memory_of<double>(a) : memory_of<float>(a);
}

void frame_message(const FrameMessageArguments& a, FrameMessageStage stage, const FrameMessageWork& work) {
  return a.dtype == Storage::float64 ? run<double>(a, stage, work) : run<float>(a, stage, work);
}

}  // namespace CLOF_ISA
}  // namespace clof
