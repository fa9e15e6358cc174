// Sums of what the edges add to their receivers and to their senders, for ops whose edges have a row of gradients each.
//
// A block owns a run of nodes. It computes both ends of the edges that these receive, a thread an edge, and keeps the
// senders' parts in shared memory for the edges that they send: where graphs are small, and a run of nodes is a run of
// whole graphs, a row is read once and computed with once. Other parts are computed again. Sums go in the order of the
// plan, with no atomics: the same bits on every run.
#pragma once

#include <algorithm>

#include "../../functor/edge.h"
#include "lanes.cuh"

namespace clof::cuda {

// Nodes of a run: this many, and at most half as many again to end where no edge crosses.
constexpr int kMaxRun = 128;
constexpr int kMaxNodes = kMaxRun + kMaxRun / 2;
// Edges of a run, about; edges whose senders' parts are kept, if they fit.
constexpr int kEdgesOfRun = 1024;
constexpr int kKeptEdges = 1536;
constexpr int kKeptBytes = 42 << 10;

// Nodes of a run for graphs of such size: enough runs to fill a GPU, if there are as many edges.
inline int nodes_of_run(int64_t nodes, int64_t edges) {
  constexpr int64_t runs = 1024, fewest = 128;
  const int64_t wanted = edges / runs < fewest ? fewest : edges / runs > kEdgesOfRun ? kEdgesOfRun : edges / runs;
  const int64_t count = edges == 0 ? kMaxRun : wanted * nodes / edges;
  return int(count < 1 ? 1 : count > kMaxRun ? kMaxRun : count);
}

// The first node from `node` on where a graph of the batch ends, or `node` itself if there is none within `window`.
CLOF_DEVICE int64_t end_of_run(const int32_t* crossings, int64_t nodes, int64_t node, int window) {
  const int64_t end = smaller(node + window, nodes + 1);
  for (int64_t first = node; first < end; first += kLanes) {
    const int64_t mine = first + lane_index();
    const uint32_t cuts = ballot(mine < end && crossings[mine] == 0);
    if (cuts) return first + lowest_bit(cuts);
  }
  return smaller(node, nodes);
}

template <class T, class Sum, int Threads> struct EdgeSums {
  static constexpr int width = Sum::width, node_width = Sum::node_width;
  static constexpr int blocks_at_once = sizeof(T) == 8 || Sum::second ? 1 : node_width == 3 && width == 9 ? 4 : 3;
  // Rows of an odd number of numbers fall on different banks.
  static constexpr int part_width = node_width | 1;
  static constexpr int kept_edges = std::min(kKeptEdges, kKeptBytes / (part_width * int(sizeof(T))));
  using Part = Numbers<T, node_width>;

  Sum sum;
  int run;  // nodes

  struct Shared {
    T kept[kept_edges * part_width];
    T sums[kMaxNodes * node_width];
    T rows[Threads * width];
    T parts[Threads * part_width];
    int first_node, last_node;  // of a step's edges
    int in_order;               // whether the edges that are received are numbered in their order
  };

  CLOF_DEVICE static Shared& shared() { return *reinterpret_cast<Shared*>(shared_memory()); }

  CLOF_DEVICE void operator()() const {
    const int64_t step = int64_t(num_blocks()) * run;
    for (int64_t begin = int64_t(block_index()) * run; begin < sum.a.graph.num_nodes; begin += step) {
      add_run(end_near(begin), end_near(begin + run));
    }
  }

  CLOF_DEVICE int end_near(int64_t node) const {
    return int(end_of_run(sum.a.crossings, sum.a.graph.num_nodes, node, run / 2 + 1));
  }

  // The nodes [first, last).
  CLOF_DEVICE void add_run(int first, int last) const {
    Shared& s = shared();
    const int numbers = (last - first) * node_width;
    for (int k = thread_index(); k < numbers; k += Threads) s.sums[k] = 0;
    if (thread_index() == 0) s.in_order = 1;
    block_barrier();
#pragma unroll 1
    for (int role = 0; role < 2; ++role) add_edges(s, Place(role), first, last);
    for (int k = thread_index(); k < numbers; k += Threads) {
      sum.sum(first + k / node_width, k % node_width) = s.sums[k];
    }
    block_barrier();
  }

  // The edges that the nodes [first, last) receive or send, as many at a time as there are threads.
  CLOF_DEVICE void add_edges(Shared& s, Place role, int first, int last) const {
    const Graph& graph = sum.a.graph;
    const bool receives = role == Place::receiver;
    const int32_t* start = receives ? graph.receiver_start : graph.sender_start;
    const int32_t* order = receives ? graph.by_receiver : graph.by_sender;
    const int end = start[last];
    // Edges received, and kept, are those numbered from `received` on, if they are in order.
    const int received = graph.receiver_start[first];
    const int kept = smaller(graph.receiver_start[last] - received, kept_edges);
    const bool use_kept = !receives && s.in_order;
    int left = end - start[first];
    int next = thread_index() < left ? order[end - left + thread_index()] : 0;
    for (; left > 0; left -= Threads) {
      const int base = end - left, count = smaller(left, Threads), edge = next;
      const bool active = thread_index() < count;
      const int position = active ? base + thread_index() : base;
      next = thread_index() + Threads < left ? order[position + Threads] : 0;
      const int slot = (receives ? position : edge) - received;
      const bool has_slot = active && slot >= 0 && slot < kept;
      const bool takes = use_kept && has_slot;
      if (ballot(active && !takes)) compute(s, receives, edge, active && !takes, has_slot ? slot : -1);
      if (takes) store_part(s.parts, thread_index(), load_part(s.kept, slot));
      if (active && receives && edge != position) s.in_order = 0;
      if (active && (thread_index() == 0 || thread_index() == count - 1)) {
        const int node = (receives ? graph.receiver : graph.sender)[edge];
        if (thread_index() == 0) s.first_node = node;
        if (thread_index() == count - 1) s.last_node = node;
      }
      block_barrier();
      add_parts(s, start, base, count, first);
      block_barrier();
    }
  }

  // The parts of a warp's edges, of which the senders' are kept in the slot if there is one. The rows of gradients of
  // edges in order are read as one piece.
  CLOF_DEVICE void compute(Shared& s, bool receives, int edge, bool active, int slot) const {
    T* rows = s.rows + warp_index() * kLanes * width;
    const int lane = lane_index(), row = shuffle(edge, 0);
    const bool in_order = ballot(active && edge - row == lane) == 0xffffffffu;
    // All that is read is asked for before the first of it is waited for, if there are registers for it.
    constexpr bool early = sizeof(T) == 4 && !Sum::second && node_width == 3;
    T number[width];
    if (in_order) {
      const T* from = sum.gradient() + int64_t(row) * width + lane;
#pragma unroll
      for (int k = 0; k < width; ++k) number[k] = from[k * kLanes];
    } else if (active) {
      const T* from = sum.gradient() + int64_t(edge) * width;
#pragma unroll
      for (int k = 0; k < width; ++k) number[k] = from[k];
    }
    auto inputs = decltype(sum.inputs(Rows<T>{})){};
    if (early) inputs = sum.inputs(Rows<T>{{edge}});
    if (in_order) {
#pragma unroll
      for (int k = 0; k < width; ++k) rows[k * kLanes + lane] = number[k];
    } else if (active) {
#pragma unroll
      for (int k = 0; k < width; ++k) rows[lane * width + k] = number[k];
    }
    warp_barrier();
    if (active) {
      if (!early) inputs = sum.inputs(Rows<T>{{edge}});
      const EndNumbers<T, node_width> both = sum.parts(inputs, rows, Rows<T>{{lane_index()}});
      if (receives && slot >= 0) store_part(s.kept, slot, both.j);
      store_part(s.parts, thread_index(), both.of(receives));
    }
    warp_barrier();
  }

  CLOF_DEVICE static void store_part(T* to, int row, const Part& part) {
#pragma unroll
    for (int c = 0; c < node_width; ++c) to[row * part_width + c] = part.at[c];
  }
  CLOF_DEVICE static Part load_part(const T* from, int row) {
    Part part;
#pragma unroll
    for (int c = 0; c < node_width; ++c) part.at[c] = from[row * part_width + c];
    return part;
  }

  // A thread has a number of a node, and adds those of the node's edges among these, which are `count` from `base` on.
  CLOF_DEVICE static void add_parts(Shared& s, const int32_t* start, int base, int count, int first) {
    const int items = (s.last_node - s.first_node + 1) * node_width;
    for (int k = thread_index(); k < items; k += Threads) {
      const int node = s.first_node + k / node_width, column = k % node_width;
      const int begin = larger(start[node] - base, 0), end = smaller(start[node + 1] - base, count);
      T& total = s.sums[(node - first) * node_width + column];
      T sum = total;
#pragma unroll 4
      for (int edge = begin; edge < end; ++edge) sum += s.parts[edge * part_width + column];
      total = sum;
    }
  }
};

}  // namespace clof::cuda
