// Checks and sorts the edges of a graph once: the tensors of an EdgePlan. On CUDA devices Python does this with torch's
// own sort (clof_ext/graph.py).
#include "host.h"

namespace clof::host {
namespace {

// Copies indices as int32; names the first that is out of range.
template <class Index>
void copy_checked(const Index* from, int64_t count, int64_t num_nodes, const std::string& name, int32_t* to) {
  for (int64_t e = 0; e < count; ++e) {
    // One comparison for both ends of the range: a negative number is large when unsigned.
    if (uint64_t(from[e]) >= uint64_t(num_nodes)) check::index_out_of_range(name, int64_t(from[e]), num_nodes);
    to[e] = int32_t(from[e]);
  }
}

// Counting sort, stable: `start` (num_nodes + 1) where each node's edges begin, `order` the edge numbers.
void sort_by(const int32_t* node, int64_t num_edges, int64_t num_nodes, int32_t* start, int32_t* order) {
  std::vector<int32_t> next(num_nodes + 1, 0);
  for (int64_t e = 0; e < num_edges; ++e) ++next[node[e] + 1];
  for (int64_t n = 0; n < num_nodes; ++n) next[n + 1] += next[n];
  std::copy(next.begin(), next.end(), start);
  for (int64_t e = 0; e < num_edges; ++e) order[next[node[e]]++] = int32_t(e);
}

// For each boundary between nodes the number of edges across it.
void count_crossings(const int32_t* receiver, const int32_t* sender, int64_t num_edges, int64_t num_nodes,
                     int32_t* crossings) {
  std::fill(crossings, crossings + num_nodes + 1, 0);
  for (int64_t e = 0; e < num_edges; ++e) {
    ++crossings[std::min(receiver[e], sender[e]) + 1];
    --crossings[std::max(receiver[e], sender[e]) + 1];
  }
  for (int64_t n = 0; n < num_nodes; ++n) crossings[n + 1] += crossings[n];
}

std::tuple<Tensor, Tensor> prepare_graph(const Tensor& edge_index_, int64_t num_nodes, const Text& name) {
  check::shape(edge_index_, {2, check::any}, name.c_str());
  if (num_nodes < 0 || num_nodes >= INT32_MAX) {
    check::fail("num_nodes must be from 0 to ", INT32_MAX - 1, "; got ", num_nodes, ".");
  }
  const Tensor edge_index = dense(edge_index_);
  const int64_t num_edges = edge_index.size(1);
  check::num_edges(num_edges);
  const auto int32_empty = [&](int64_t rows, int64_t columns) {
    return empty(edge_index, {rows, columns}, ScalarType::Int);
  };
  Tensor edges = int32_empty(4, num_edges), offsets = int32_empty(3, num_nodes + 1);
  auto* e = static_cast<int32_t*>(edges.data_ptr());
  auto* o = static_cast<int32_t*>(offsets.data_ptr());
  if (edge_index.scalar_type() == ScalarType::Long) {
    copy_checked(static_cast<const int64_t*>(data(edge_index)), 2 * num_edges, num_nodes, name, e);
  } else {
    check::dtype(edge_index, ScalarType::Int, name.c_str());
    copy_checked(static_cast<const int32_t*>(data(edge_index)), 2 * num_edges, num_nodes, name, e);
  }
  for (int role = 0; role < 2; ++role) {
    sort_by(e + role * num_edges, num_edges, num_nodes, o + role * (num_nodes + 1), e + (2 + role) * num_edges);
  }
  count_crossings(e, e + num_edges, num_edges, num_nodes, o + 2 * (num_nodes + 1));
  return {edges, offsets};
}

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) {
  library.impl("prepare_graph", TORCH_BOX(&clof::host::prepare_graph));
}
