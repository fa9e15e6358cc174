// Everything that must be there before a pass over edges begins, in one launch: the image of weights, what the first
// Linear makes of nodes, memory that is added to, and for the backward pass where to find edges and weights again.
#pragma once

#include "finish.cuh"
#include "nodes.cuh"
#include "pack.cuh"
#include "senders.cuh"

namespace clof::cuda {

struct PrepareJobs {
  PackJobs pack;
  NodeLinear nodes;
  // Of the backward pass; without it no blocks of threads are given to them.
  StackedWeights stacked;
  SenderSums senders;
  int stack_blocks, place_blocks;

  CLOF_HD int num_pack_blocks() const { return kPackBlocks * pack.num_matrices + 1; }
  int64_t num_blocks() const { return num_pack_blocks() + stack_blocks + place_blocks + num_node_blocks(nodes.nodes); }
};

template <class Kind, int Width> CLOF_DEVICE void prepare(const PrepareJobs& jobs) {
  const int threads = num_threads();
  int block = block_index();
  if (block < jobs.num_pack_blocks()) return pack<Kind>(jobs.pack, block);
  block -= jobs.num_pack_blocks();
  if (block < jobs.stack_blocks) {
    return stack_weights<Kind>(jobs.stacked, block * threads + thread_index(), jobs.stack_blocks * threads);
  }
  block -= jobs.stack_blocks;
  if (block < jobs.place_blocks) {
    return find_places(jobs.senders, int64_t(block) * threads + thread_index(), int64_t(jobs.place_blocks) * threads);
  }
  node_linear<Kind, Width>(jobs.nodes, block - jobs.place_blocks);
}

}  // namespace clof::cuda
