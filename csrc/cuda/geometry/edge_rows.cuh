// A row of numbers for each edge, such as its frame. The lanes of a warp make the rows of a run of edges in shared
// memory, and the warp writes them as one piece: written by the lanes, each store would touch as many sectors as there
// are lanes.
#pragma once

#include "../../functor/edge.h"
#include "lanes.cuh"

namespace clof::cuda {

template <class T, class Map> constexpr int edge_rows_shared_bytes(int threads) {
  return threads * Map::width * int(sizeof(T));
}

template <class T, class Map> struct EdgeRows {
  static constexpr int blocks_at_once = sizeof(T) == 8 ? 2 : 4;

  Map map;
  T* to;  // (E, width)
  int64_t edges;

  CLOF_DEVICE void operator()() const {
    constexpr int width = Map::width;
    T* rows = reinterpret_cast<T*>(shared_memory()) + warp_index() * kLanes * width;
    const int64_t step = int64_t(num_blocks()) * num_threads();
    for (int64_t first = int64_t(block_index()) * num_threads() + warp_index() * kLanes; first < edges; first += step) {
      const int count = int(smaller<int64_t>(kLanes, edges - first));
      if (lane_index() < count) {
        store_row<width, width>(rows + lane_index() * width, map.row(consecutive<T>(first + lane_index())));
      }
      warp_barrier();
      copy_out(to + first * width, rows, count * width);
      warp_barrier();
    }
  }
};

}  // namespace clof::cuda
