// Sums of what the edges add to their receivers and to their senders, for ops whose edges have a row of gradients each.
//
// A block owns a run of nodes. The edges that these receive follow one another in memory, if they are sorted: their
// rows and their nodes come to shared memory as a few pieces, all asked for at once. A thread an edge then puts what
// the edge adds to both its nodes in the place of its row. Where a run of nodes is a run of whole graphs the edges that
// it sends are among these, and one walk over each node's edges ends it; other edges are brought and computed again.
// Sums go in an order that depends on the plan alone, with no atomics: the same bits on every run.
#pragma once

#include "../../functor/edge.h"
#include "lanes.cuh"

namespace clof::cuda {

// Nodes of a run: at most this many, and up to as many again to end where no edge crosses.
constexpr int kMaxRun = 2 * kLanes;
constexpr int kMaxNodes = 2 * kMaxRun;

// Nodes of a run for graphs of such size: enough runs to fill a GPU, if there are as many edges; not more edges than
// `most` on average.
inline int nodes_of_run(int64_t nodes, int64_t edges, int64_t most) {
  constexpr int64_t runs = 1024, fewest = 128;
  const int64_t wanted = edges / runs < fewest ? fewest : edges / runs > most ? most : edges / runs;
  const int64_t count = edges == 0 ? kMaxRun : wanted * nodes / edges;
  return int(count < 1 ? 1 : count > kMaxRun ? kMaxRun : count);
}

// Edges whose rows a block holds at a time.
template <class T> constexpr int kEdgesAtOnce = 4096 / int(sizeof(T));

template <class T, class Sum, int Threads, int Edges = kEdgesAtOnce<T>> struct EdgeSums {
  static constexpr int width = Sum::width, node_width = Sum::node_width;
  static constexpr int blocks_at_once = sizeof(T) == 8 || Sum::second ? 1 : node_width == 3 && width == 9 ? 4 : 3;
  // Edges of a run on average: runs that end where a graph ends have up to as many again.
  static constexpr int edges_of_run = Edges / 2;
  // Lanes that share a node: one half has the edges that it receives, the other those that it sends.
  static constexpr int node_lanes = 8, role_lanes = node_lanes / 2;
  static_assert(width >= 2 * node_width, "the parts of an edge take the place of its row");

  Sum sum;
  int run;  // nodes

  struct Shared {
    alignas(kPieceBytes) T rows[Edges * width + kPiece<T>];
    alignas(kPieceBytes) int32_t receiver[Edges + kPiece<int32_t>];
    alignas(kPieceBytes) int32_t sender[Edges + kPiece<int32_t>];
    T sums[kMaxNodes * node_width];
    int slot[Edges];                // of the edges that are sent, among those that are received
    int start[2][kMaxNodes + 1];    // where a node's edges begin, as receiver and as sender
    int unsorted, sends_elsewhere;  // whether the edges are not as hoped for
  };

  // Edges in the order of the plan, `count` of them from `base` on.
  struct Range {
    int base, count;
  };
  // Where the edges at hand lie in shared memory.
  struct Held {
    T* rows;
    const int32_t *receiver, *sender;
  };

  CLOF_DEVICE static Shared& shared() { return *reinterpret_cast<Shared*>(shared_memory()); }

  CLOF_DEVICE void operator()() const {
    const int64_t step = int64_t(num_blocks()) * run;
    for (int64_t begin = int64_t(block_index()) * run; begin < sum.a.graph.num_nodes; begin += step) add_run(begin);
  }

  // The first node from `node` on where a graph of the batch ends, or `node` itself if there is none near; `near` and
  // `far` say whether one ends at the node of this lane, or of this lane a warp further.
  CLOF_DEVICE int end_of_run(int64_t node, bool near, bool far) const {
    if (const uint32_t cuts = ballot(near)) return int(node) + lowest_bit(cuts);
    if (const uint32_t cuts = ballot(far)) return int(node) + kLanes + lowest_bit(cuts);
    return int(smaller(node, sum.a.graph.num_nodes));
  }
  CLOF_DEVICE bool is_cut(int64_t node) const { return node <= sum.a.graph.num_nodes && sum.a.crossings[node] == 0; }

  // The nodes that the run from `begin` on has.
  CLOF_DEVICE void add_run(int64_t begin) const {
    Shared& s = shared();
    const Graph& graph = sum.a.graph;
    for (int k = thread_index(); k <= kMaxNodes && begin + k <= graph.num_nodes; k += Threads) {
      s.start[0][k] = graph.receiver_start[begin + k];
      s.start[1][k] = graph.sender_start[begin + k];
    }
    for (int k = thread_index(); k < kMaxNodes * node_width; k += Threads) s.sums[k] = 0;
    if (thread_index() == 0) s.unsorted = s.sends_elsewhere = 0;
    const int64_t lane = begin + lane_index();
    const bool cut[4] = {is_cut(lane), is_cut(lane + kLanes), is_cut(lane + run), is_cut(lane + run + kLanes)};
    const int first = end_of_run(begin, cut[0], cut[1]), last = end_of_run(begin + run, cut[2], cut[3]);
    for (int k = thread_index(); k < (last - first) * Sum::node_inputs; k += Threads) {
      prefetch(sum.node_input(k % Sum::node_inputs) + int64_t(first + k / Sum::node_inputs) * 3);
    }
    block_barrier();
    add_edges(s, int(begin), first, last);
    T* const sums = s.sums + (first - begin) * node_width;
    for (int k = thread_index(); k < (last - first) * node_width; k += Threads) {
      sum.sum(first + k / node_width, k % node_width) = sums[k];
    }
    block_barrier();
  }

  // Sums for the nodes [first, last) of those from `begin` on.
  CLOF_DEVICE void add_edges(Shared& s, int begin, int first, int last) const {
    const Graph& graph = sum.a.graph;
    const int nodes[2] = {first - begin, last - begin};
    const Range received = range(s.start[0], nodes), sent = range(s.start[1], nodes);
    const bool all_at_once = received.count <= Edges && sent.count <= Edges;
    bool receives = true, sorted = true;
    for (int done = 0;;) {
      const Range whole = receives ? received : sent;
      if (done >= whole.count) {
        if (!receives) return;
        receives = sorted = false;
        done = 0;
        continue;
      }
      const Range part{whole.base + done, smaller(Edges, whole.count - done)};
      const Held held = sorted ? hold(s, part) : hold(s, part, receives ? graph.by_receiver : graph.by_sender);
      if (sorted && all_at_once) hold_slots(s, sent, received);
      copies_arrive();
      block_barrier();
      if (sorted && !are_sorted(s, held, part, begin)) s.unsorted = 1;
      compute(held, part.count);
      block_barrier();
      if (sorted && s.unsorted) {
        sorted = false;
        continue;  // with the edges that should have come
      }
      const bool sent_too = sorted && all_at_once && !s.sends_elsewhere;
      add(s, held.rows, nodes, receives ? part : Range{},
          sent_too   ? sent
          : receives ? Range{}
                     : part,
          sent_too ? s.slot : nullptr);
      block_barrier();
      if (sent_too) return;
      done += Edges;
    }
  }

  CLOF_DEVICE static Range range(const int* start, const int (&nodes)[2]) {
    return {start[nodes[0]], start[nodes[1]] - start[nodes[0]]};
  }

  // Asks for the edges of these numbers.
  CLOF_DEVICE Held hold(Shared& s, Range part) const {
    return {copy_in(s.rows, sum.gradient() + int64_t(part.base) * width, part.count * width),
            copy_in(s.receiver, sum.a.graph.receiver + part.base, part.count),
            copy_in(s.sender, sum.a.graph.sender + part.base, part.count)};
  }

  // Brings the edges that stand there in an order of the plan.
  CLOF_DEVICE Held hold(Shared& s, Range part, const int32_t* order) const {
    order += part.base;
    for (int k = thread_index(); k < part.count; k += Threads) {
      s.receiver[k] = sum.a.graph.receiver[order[k]];
      s.sender[k] = sum.a.graph.sender[order[k]];
    }
    for (int k = thread_index(); k < part.count * width; k += Threads) {
      s.rows[k] = sum.gradient()[int64_t(order[k / width]) * width + k % width];
    }
    return {s.rows, s.receiver, s.sender};
  }

  // Where the edges that are sent stand among those that are received, if these are sorted.
  CLOF_DEVICE void hold_slots(Shared& s, Range sent, Range received) const {
    bool inside = true;
#pragma unroll 4
    for (int k = thread_index(); k < sent.count; k += Threads) {
      const int slot = sum.a.graph.by_sender[sent.base + k] - received.base;
      inside = inside && slot >= 0 && slot < received.count;
      s.slot[k] = slot;
    }
    if (!inside) s.sends_elsewhere = 1;
  }

  // Whether the edges of these numbers, as far as this thread looks, are those that the nodes receive in this order: a
  // node has as many as there are places for them, so it is enough that each is the node's.
  CLOF_DEVICE static bool are_sorted(const Shared& s, const Held& held, Range part, int begin) {
    bool sorted = true;
    for (int k = thread_index(); k < part.count; k += Threads) {
      const int node = held.receiver[k] - begin, edge = part.base + k;
      const bool known = node >= 0 && node < kMaxNodes;
      const int* start = s.start[0] + (known ? node : 0);
      sorted = sorted & known & (start[0] <= edge) & (edge < start[1]);
    }
    return sorted;
  }

  // The parts of both nodes, in the place of each edge's row.
  CLOF_DEVICE void compute(const Held& held, int count) const {
    Sum here = sum;
    here.a.graph.receiver = held.receiver;
    here.a.graph.sender = held.sender;
#pragma unroll 1
    for (int k = thread_index(); k < count; k += Threads) {
      T* const at = held.rows + k * width;
      const EndNumbers<T, node_width> both =
          here.parts(here.inputs(Rows<T>{{k}}), load_row<width>(at).at, Rows<T>{{0}});
      Numbers<T, width> row{};
#pragma unroll
      for (int c = 0; c < node_width; ++c) {
        row.at[c] = both.i.at[c];
        row.at[node_width + c] = both.j.at[c];
      }
      store_row<width, 2 * node_width>(at, row);
    }
  }

  // Adds to the sums of the nodes [nodes[0], nodes[1]) the parts of those of their edges that are in the two ranges;
  // the edges that are sent stand in the rows `slot`, or in their own order.
  CLOF_DEVICE static void add(Shared& s, const T* rows, const int (&nodes)[2], Range received, Range sent,
                              const int* slot) {
    const int lane = thread_index() % node_lanes;
    const bool sends = lane >= role_lanes;
    const Range range = sends ? sent : received;
    const int* start = s.start[sends];
    rows += sends ? node_width : 0;
    // All lanes of a warp go on together, also those beyond the last node.
    for (int base = nodes[0]; base < nodes[1]; base += Threads / node_lanes) {
      const int node = base + thread_index() / node_lanes;
      const bool active = node < nodes[1];
      Numbers<T, node_width> total{};
      int k = active ? larger(start[node] - range.base, 0) + lane % role_lanes : 0;
      const int end = active ? smaller(start[node + 1] - range.base, range.count) : 0;
#pragma unroll 2
      for (; k < end; k += role_lanes) {
        const T* row = rows + (sends && slot != nullptr ? slot[k] : k) * width;
#pragma unroll
        for (int c = 0; c < node_width; ++c) total.at[c] += row[c];
      }
#pragma unroll
      for (int c = 0; c < node_width; ++c) {
        const T sum = sum_over_lanes(total.at[c], 1, node_lanes);
        if (active && lane == 0) s.sums[node * node_width + c] += sum;
      }
    }
  }
};

}  // namespace clof::cuda
