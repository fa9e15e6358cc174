// Runs of nodes, which blocks own for sums over edges. Graphs of a batch lie one after the other, so that a run can end
// where a graph ends: then the edges that its nodes send are those that they receive.
#pragma once

#include "../../functor/edge.h"
#include "lanes.cuh"

namespace clof::cuda {

// Nodes of a run: at most this many, and up to as many again to end where no edge crosses.
constexpr int kMaxRun = 2 * kLanes;
constexpr int kMaxNodes = 2 * kMaxRun;

// Edges of a run that a block has room for.
template <class T> constexpr int kEdgesAtOnce = 4096 / int(sizeof(T));

// Nodes of a run for graphs of such size: enough runs to fill a GPU, if there are as many edges; not more edges than
// half of `room` on average, since a run that ends where a graph ends may have as many again.
inline int nodes_of_run(int64_t nodes, int64_t edges, int64_t room) {
  constexpr int64_t runs = 1024, fewest = 128;
  const int64_t most = room / 2;
  const int64_t wanted = edges / runs < fewest ? fewest : edges / runs > most ? most : edges / runs;
  const int64_t count = edges == 0 ? kMaxRun : wanted * nodes / edges;
  return int(count < 1 ? 1 : count > kMaxRun ? kMaxRun : count);
}

// Edges in the order of the plan, `count` of them from `base` on.
struct EdgeRange {
  int base, count;
};

// The nodes [first, last), and where they stand among those from `begin` on.
struct RunNodes {
  int begin, first, last;

  CLOF_DEVICE int count() const { return last - first; }
};

// The first node from `node` on where a graph of the batch ends, or `node` itself if there is none near; `near` and
// `far` say whether one ends at the node of this lane, or of this lane a warp further.
CLOF_DEVICE int end_of_run(const Graph& graph, int64_t node, bool near, bool far) {
  if (const uint32_t cuts = ballot(near)) return int(node) + lowest_bit(cuts);
  if (const uint32_t cuts = ballot(far)) return int(node) + kLanes + lowest_bit(cuts);
  return int(smaller(node, graph.num_nodes));
}

// The run of `count` nodes, about, from `begin` on. All lanes of a warp call it.
CLOF_DEVICE RunNodes ends_of_run(const Graph& graph, const int32_t* crossings, int64_t begin, int count) {
  const int64_t lane = begin + lane_index();
  const auto is_cut = [&](int64_t node) { return node <= graph.num_nodes && crossings[node] == 0; };
  const bool cut[4] = {is_cut(lane), is_cut(lane + kLanes), is_cut(lane + count), is_cut(lane + count + kLanes)};
  return {int(begin), end_of_run(graph, begin, cut[0], cut[1]), end_of_run(graph, begin + count, cut[2], cut[3])};
}

// What a block knows of its run, in shared memory. All threads of the block call its functions.
template <int Edges> struct NodeRun {
  int slot[Edges];                // of the edges that are sent, among those that are received
  int start[2][kMaxNodes + 1];    // where a node's edges begin, as receiver and as sender
  int unsorted, sends_elsewhere;  // whether the edges are not as hoped for
  RunNodes nodes;

  // The run of `count` nodes, about, from `begin` on. To be followed by a barrier.
  CLOF_DEVICE void enter(const Graph& graph, const int32_t* crossings, int64_t begin, int count) {
    for (int k = thread_index(); k <= kMaxNodes && begin + k <= graph.num_nodes; k += num_threads()) {
      start[0][k] = graph.receiver_start[begin + k];
      start[1][k] = graph.sender_start[begin + k];
    }
    const RunNodes ends = ends_of_run(graph, crossings, begin, count);
    if (thread_index() != 0) return;
    nodes = ends;
    unsorted = sends_elsewhere = 0;
  }

  CLOF_DEVICE EdgeRange received() const { return range(start[0]); }
  CLOF_DEVICE EdgeRange sent() const { return range(start[1]); }
  // Whether there is room for all edges.
  CLOF_DEVICE bool has_room() const { return received().count <= Edges && sent().count <= Edges; }

  // Where the edges that are sent stand among those that are received, if these are sorted. If there is room.
  CLOF_DEVICE void hold_slots(const Graph& graph) {
    const EdgeRange received = this->received(), sent = this->sent();
    bool inside = true;
#pragma unroll 4
    for (int k = thread_index(); k < sent.count; k += num_threads()) {
      slot[k] = graph.by_sender[sent.base + k] - received.base;
      inside = inside && slot[k] >= 0 && slot[k] < received.count;
    }
    if (!inside) raise_flag(sends_elsewhere);
  }

  // For each node calls write(node, sum) in one lane with the sum of the rows of those of its edges that are in the two
  // ranges: numbers [0, Width) of the edges that it receives, the next Width of those that it sends. These stand in the
  // rows `slot`, or, where that is null, in their own order.
  template <int Width, int Stride, class T, class Write>
  CLOF_DEVICE void add(const T* rows, EdgeRange received, EdgeRange sent, const int* slot, const Write& write) const {
    // One half of a node's lanes has the edges that it receives, the other those that it sends.
    constexpr int lanes = 8, role_lanes = lanes / 2;
    const int lane = thread_index() % lanes;
    const bool sends = lane >= role_lanes;
    const EdgeRange range = sends ? sent : received;
    const int* start = this->start[sends] + (nodes.first - nodes.begin);
    rows += sends ? Width : 0;
    // All lanes of a warp go on together, also those beyond the last node.
    for (int base = 0; base < nodes.count(); base += num_threads() / lanes) {
      const int node = base + thread_index() / lanes;
      const bool active = node < nodes.count();
      Numbers<T, Width> total{};
      int k = active ? larger(start[node] - range.base, 0) + lane % role_lanes : 0;
      const int end = active ? smaller(start[node + 1] - range.base, range.count) : 0;
#pragma unroll 2
      for (; k < end; k += role_lanes) {
        const T* row = rows + (sends && slot != nullptr ? slot[k] : k) * Stride;
#pragma unroll
        for (int c = 0; c < Width; ++c) total.at[c] += row[c];
      }
#pragma unroll
      for (int c = 0; c < Width; ++c) total.at[c] = sum_over_lanes(total.at[c], 1, lanes);
      if (active && lane == 0) write(nodes.first + node, total);
    }
  }

 private:
  CLOF_DEVICE EdgeRange range(const int* start) const {
    const int base = start[nodes.first - nodes.begin];
    return {base, start[nodes.last - nodes.begin] - base};
  }
};

}  // namespace clof::cuda
