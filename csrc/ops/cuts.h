// The edges of a graph cut into pieces that workers can sum on their own.
#pragma once

#include <algorithm>
#include <vector>

#include "../functor/arguments.h"

namespace clof::host {

// How many chunks edges or rows are cut into: enough for the threads of a large machine, few enough that their sums of
// weights' gradients stay small. A power of two shares evenly among the usual numbers of threads. It depends on the
// size alone, and so does the order of all sums. A chunk is no smaller than `smallest`.
inline int64_t num_chunks(int64_t size, int64_t smallest) {
  constexpr int64_t kMost = 64;
  int64_t count = 1;
  while (count < kMost && 2 * count * smallest <= size) count *= 2;
  return count;
}

// Chunks of nodes whose receivers' edges are about as many. Closed: no edge joins two of them.
struct Cuts {
  std::vector<int64_t> first_node;  // of each chunk, and the last node's successor
  bool closed = true;

  // crossings (N + 1): how many edges cross the boundary before a node.
  Cuts(const Graph& graph, const int32_t* crossings, int64_t chunks) {
    std::vector<int64_t> open = {0};
    first_node = {0};
    int64_t node = 0;
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      const int32_t target = int32_t(graph.num_edges * chunk / chunks);
      open.push_back(std::lower_bound(graph.receiver_start, graph.receiver_start + graph.num_nodes, target) -
                     graph.receiver_start);
      node = std::max(node, open.back());
      while (node < graph.num_nodes && crossings[node] != 0) ++node;
      first_node.push_back(node);
    }
    first_node.push_back(graph.num_nodes);
    open.push_back(graph.num_nodes);
    // Where graphs meet too seldom for equal work, edges are allowed to join chunks.
    closed = chunks == 1 || most_edges(graph) <= 2 * graph.num_edges / chunks;
    if (!closed) first_node = std::move(open);
  }

  int64_t count() const { return int64_t(first_node.size()) - 1; }

  // Of a chunk.
  int64_t most_nodes() const {
    int64_t most = 0;
    for (int64_t chunk = 0; chunk < count(); ++chunk) most = std::max(most, first_node[chunk + 1] - first_node[chunk]);
    return most;
  }

  int64_t most_edges(const Graph& graph) const {
    int64_t most = 0;
    for (int64_t chunk = 0; chunk < count(); ++chunk) {
      most = std::max<int64_t>(most,
                               graph.receiver_start[first_node[chunk + 1]] - graph.receiver_start[first_node[chunk]]);
    }
    return most;
  }
};

}  // namespace clof::host
