// Runs the functors of ops that have a row of numbers for each edge.
#pragma once

#include "../launch.cuh"
#include "edge_rows.cuh"
#include "edge_sums.cuh"

namespace clof::cuda {

// Writes the rows of all edges.
template <class T, class Map>
void launch_edge_rows(const Map& map, void* to, const Graph& graph, const Stream& stream) {
  const EdgeRows<T, Map> kernel{map, static_cast<T*>(to), graph.num_edges};
  launch_tiles<kThreads>(kernel, quotient_up(graph.num_edges, kThreads), edge_rows_shared_bytes<T, Map>(kThreads),
                         stream);
}

// Writes the sums of all nodes, over the edges that they receive and over those that they send.
template <class T, class Sum> void launch_edge_sums(const Sum& sum, const Graph& graph, const Stream& stream) {
  using Kernel = EdgeSums<T, Sum, kThreads>;
  const int run = nodes_of_run(graph.num_nodes, graph.num_edges, Kernel::room);
  launch_tiles<kThreads>(Kernel{sum, run}, quotient_up(graph.num_nodes, run), sizeof(typename Kernel::Shared), stream);
}

}  // namespace clof::cuda
