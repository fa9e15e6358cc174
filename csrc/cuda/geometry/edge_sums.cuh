// Sums of what the edges add to their receivers and to their senders, for ops whose edges have a row of gradients each.
//
// A block owns a run of nodes. The edges that these receive follow one another in memory, if they are sorted: their
// rows and their nodes come to shared memory as a few pieces, all asked for at once. A thread an edge then puts what
// the edge adds to both its nodes in the place of its row. Where a run of nodes is a run of whole graphs the edges that
// it sends are among these, and one walk over each node's edges ends it; other edges are brought and computed again.
// Sums go in an order that depends on the plan alone, with no atomics: the same bits on every run.
#pragma once

#include "node_run.cuh"

namespace clof::cuda {

template <class T, class Sum, int Threads, int Edges = kEdgesAtOnce<T>> struct EdgeSums {
  static constexpr int width = Sum::width, node_width = Sum::node_width;
  static constexpr int blocks_at_once = sizeof(T) == 8 || Sum::second ? 1 : node_width == 3 && width == 9 ? 4 : 3;
  static constexpr int room = Edges;
  static_assert(width >= 2 * node_width, "the parts of an edge take the place of its row");

  Sum sum;
  int run;  // nodes

  struct Shared : NodeRun<Edges> {
    alignas(kPieceBytes) T rows[Edges * width + kPiece<T>];
    alignas(kPieceBytes) int32_t receiver[Edges + kPiece<int32_t>];
    alignas(kPieceBytes) int32_t sender[Edges + kPiece<int32_t>];
    T sums[kMaxNodes * node_width];
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

  // The nodes that the run from `begin` on has.
  CLOF_DEVICE void add_run(int64_t begin) const {
    Shared& s = shared();
    s.enter(sum.a.graph, sum.a.crossings, begin, run);
    block_barrier();
    const int first = s.nodes.first, count = s.nodes.count();
    for (int k = thread_index(); k < count * node_width; k += Threads) s.sums[k] = 0;
    for (int k = thread_index(); k < count * Sum::node_inputs; k += Threads) {
      prefetch(sum.node_input(k % Sum::node_inputs) + int64_t(first + k / Sum::node_inputs) * 3);
    }
    add_edges(s);
    for (int k = thread_index(); k < count * node_width; k += Threads) {
      sum.sum(first + k / node_width, k % node_width) = s.sums[k];
    }
    block_barrier();
  }

  CLOF_DEVICE void add_edges(Shared& s) const {
    const Graph& graph = sum.a.graph;
    const bool all_at_once = s.has_room();
    bool receives = true, sorted = true;
    for (int done = 0;;) {
      const EdgeRange whole = receives ? s.received() : s.sent();
      if (done >= whole.count) {
        if (!receives) return;
        receives = sorted = false;
        done = 0;
        continue;
      }
      const EdgeRange part{whole.base + done, smaller(Edges, whole.count - done)};
      const Held held = sorted ? hold(s, part) : hold(s, part, receives ? graph.by_receiver : graph.by_sender);
      if (sorted && all_at_once) s.hold_slots(graph);
      copies_arrive();
      block_barrier();
      if (sorted && !are_sorted(s, held, part, s.nodes.begin)) raise_flag(s.unsorted);
      compute(held, part.count);
      block_barrier();
      if (sorted && s.unsorted) {
        sorted = false;
        continue;  // with the edges that should have come
      }
      const bool sent_too = sorted && all_at_once && !s.sends_elsewhere;
      const EdgeRange receives_part = receives ? part : EdgeRange{};
      const EdgeRange sends_part = sent_too ? s.sent() : receives ? EdgeRange{} : part;
      s.template add<node_width, width>(held.rows, receives_part, sends_part, sent_too ? s.slot : nullptr,
                                        [&](int node, const Numbers<T, node_width>& part) {
                                          T* to = s.sums + (node - s.nodes.first) * node_width;
#pragma unroll
                                          for (int c = 0; c < node_width; ++c) to[c] += part.at[c];
                                        });
      block_barrier();
      if (sent_too) return;
      done += Edges;
    }
  }

  // Asks for the edges of these numbers.
  CLOF_DEVICE Held hold(Shared& s, EdgeRange part) const {
    return {copy_in(s.rows, sum.gradient() + int64_t(part.base) * width, part.count * width),
            copy_in(s.receiver, sum.a.graph.receiver + part.base, part.count),
            copy_in(s.sender, sum.a.graph.sender + part.base, part.count)};
  }

  // Brings the edges that stand there in an order of the plan.
  CLOF_DEVICE Held hold(Shared& s, EdgeRange part, const int32_t* order) const {
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

  // Whether the edges of these numbers, as far as this thread looks, are those that the nodes receive in this order: a
  // node has as many as there are places for them, so it is enough that each is the node's.
  CLOF_DEVICE static bool are_sorted(const Shared& s, const Held& held, EdgeRange part, int begin) {
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
};

}  // namespace clof::cuda
