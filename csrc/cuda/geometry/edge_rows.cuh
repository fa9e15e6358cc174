// A row of numbers for each edge, such as its frame. Threads make the rows of a run of edges in shared memory, and the
// block writes them as one piece: written by the threads, each store of a warp would touch as many sectors as it has
// lanes.
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
    T* rows = reinterpret_cast<T*>(shared_memory());
    const int64_t step = int64_t(num_blocks()) * num_threads();
    for (int64_t first = int64_t(block_index()) * num_threads(); first < edges; first += step) {
      const int count = int(smaller<int64_t>(num_threads(), edges - first));
      if (thread_index() < count) {
        store_rows(rows, thread_index(), map.row(consecutive<T>(first + thread_index())));
      }
      block_barrier();
      copy_out(to + first * Map::width, rows, count * Map::width);
      block_barrier();
    }
  }
};

}  // namespace clof::cuda
