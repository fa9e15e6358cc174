// Sums of vectors on edges over the edges that each node receives and over those that it sends, for the runs of nodes
// that PositionSums has left open.
#pragma once

#include "position_sums.cuh"

namespace clof::cuda {

// Lanes of a node: they take its edges in turn.
constexpr int kNodeLanes = 8;

template <class T> struct NodeSums {
  static constexpr int blocks_at_once = 4;

  Graph graph;
  const int32_t* crossings;
  PositionScratch<T> scratch;
  T* to;  // (N, 3)

  CLOF_DEVICE void operator()() const {
    for (int64_t index = block_index(); index * scratch.run < graph.num_nodes; index += num_blocks()) {
      if (scratch.open[index]) add_run(ends_of_run(graph, crossings, index * scratch.run, scratch.run));
    }
  }

  CLOF_DEVICE void add_run(RunNodes nodes) const {
    for (int first = nodes.first; first < nodes.last; first += num_threads() / kNodeLanes) {
      const int node = first + thread_index() / kNodeLanes;
      Vec3<T> sum{};
      if (node < nodes.last) {
        sum = of_lane(scratch.parts, graph.by_receiver, graph.receiver_start + node) +
              of_lane(scratch.parts + graph.num_edges * 3, graph.by_sender, graph.sender_start + node);
      }
      sum = {sum_over_lanes(sum.x, 1, kNodeLanes), sum_over_lanes(sum.y, 1, kNodeLanes),
             sum_over_lanes(sum.z, 1, kNodeLanes)};
      if (node < nodes.last && thread_index() % kNodeLanes == 0) store_rows(to, node, numbers(sum));
    }
  }

  CLOF_DEVICE static Vec3<T> of_lane(const T* rows, const int32_t* order, const int32_t* start) {
    Vec3<T> sum{};
    for (int p = start[0] + thread_index() % kNodeLanes; p < start[1]; p += kNodeLanes) {
      sum = sum + load3<T>(rows, Rows<T>{{order[p]}});
    }
    return sum;
  }
};

}  // namespace clof::cuda
