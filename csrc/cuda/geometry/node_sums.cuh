// Sums of vectors on edges over the edges that each node receives and over those that it sends.
#pragma once

#include "../../functor/edge.h"
#include "lanes.cuh"

namespace clof::cuda {

// Lanes of a node: they take its edges in turn.
constexpr int kNodeLanes = 8;

template <class T> struct NodeSums {
  static constexpr int blocks_at_once = 4;

  Graph graph;
  const T* received;  // (E, 3), or null: nothing to add
  const T* sent;      // (E, 3), or null
  T* to;              // (N, 3)
  bool adds;          // to what is there already

  CLOF_DEVICE void operator()() const {
    const int64_t nodes = num_threads() / kNodeLanes;
    for (int64_t first = block_index() * nodes; first < graph.num_nodes; first += num_blocks() * nodes) {
      const int64_t node = first + thread_index() / kNodeLanes;
      const bool active = node < graph.num_nodes;
      Vec3<T> sum{};
      if (active && received != nullptr) sum = sum + of_lane(received, graph.by_receiver, graph.receiver_start + node);
      if (active && sent != nullptr) sum = sum + of_lane(sent, graph.by_sender, graph.sender_start + node);
      sum = {sum_over_lanes(sum.x, 1, kNodeLanes), sum_over_lanes(sum.y, 1, kNodeLanes),
             sum_over_lanes(sum.z, 1, kNodeLanes)};
      if (!active || thread_index() % kNodeLanes != 0) continue;
      if (adds) sum = sum + load3<T>(to, Rows<T>{{node}});
      store_rows(to, node, numbers(sum));
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
