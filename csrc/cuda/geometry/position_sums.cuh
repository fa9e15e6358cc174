// Sums of the edges' parts of a gradient by the positions, for kernels whose blocks own runs of nodes. Where a run of
// nodes is a run of whole graphs the parts do not leave the multiprocessor; else they go through memory, and NodeSums
// adds them up.
#pragma once

#include "node_run.cuh"

namespace clof::cuda {

// Where parts go that do not stay in a block.
template <class T> struct PositionScratch {
  T* parts;       // (2, E, 3): the receivers', then the senders'
  int32_t* open;  // for each run whether its nodes' parts are there
  int run;        // nodes
};

// What a block needs for the sums of one run, in shared memory.
// A row an edge; rows of an odd number of numbers fall on different banks.
template <class T, int Edges = kEdgesAtOnce<T>, int Stride = 7> struct PositionSums {
  static_assert(Stride >= 6 && Stride % 2 == 1, "room for the parts of both nodes");
  static constexpr int room = Edges;

  NodeRun<Edges> run;
  T parts[Edges * Stride];

  // Begins a run, and finds out whether it has all that its nodes need. All threads of the block call it.
  CLOF_DEVICE void begin(const Graph& graph, const int32_t* crossings, int64_t first, int count) {
    run.enter(graph, crossings, first, count);
    block_barrier();
    const EdgeRange received = run.received(), sent = run.sent();
    constexpr int line = 128 / int(sizeof(int32_t));
    for (int k = thread_index() * line; k < received.count; k += num_threads() * line) {
      prefetch(graph.receiver + received.base + k);
      prefetch(graph.sender + received.base + k);
    }
    if (!run.has_room() || received.count != sent.count) {
      raise_flag(run.sends_elsewhere);
    } else {
      run.hold_slots(graph);
      bool sorted = true;
      for (int k = thread_index(); k < received.count; k += num_threads()) {
        sorted = sorted && graph.by_receiver[received.base + k] == received.base + k;
      }
      if (!sorted) raise_flag(run.unsorted);
    }
    block_barrier();
  }

  CLOF_DEVICE bool is_open() const { return run.unsorted || run.sends_elsewhere; }

  CLOF_DEVICE T* row(int64_t k) { return parts + k * Stride; }

  // The parts of an edge that one of the nodes receives or sends.
  CLOF_DEVICE void put(T* scratch, const Graph& graph, int64_t edge, const Ends<T>& part) {
    if (is_open()) {
      store_rows(scratch, edge, numbers(part.i));
      store_rows(scratch, graph.num_edges + edge, numbers(part.j));
    } else {
      T* to = row(edge - run.received().base);
      store_rows(to, 0, numbers(part.i));
      store_rows(to, 1, numbers(part.j));
    }
  }

  // Writes the sums of the nodes, if all their parts are here. All threads of the block call it.
  CLOF_DEVICE void finish(T* sums) const {
    block_barrier();
    if (!is_open()) {
      run.template add<3, Stride>(parts, run.received(), run.sent(), run.slot,
                                  [&](int node, const Numbers<T, 3>& sum) { store_rows(sums, node, sum); });
    }
    block_barrier();
  }
};

// The loop of a kernel over the runs of nodes that its block owns: calls body(put) for each, in all threads,
// where put(edge, parts) takes the parts of an edge, once.
template <class T, int Edges, int Stride, class Body>
CLOF_DEVICE void over_runs(PositionSums<T, Edges, Stride>& sums, const TensorFormArguments& a,
                           const PositionScratch<T>& scratch, const Body& body) {
  for (int64_t index = block_index(); index * scratch.run < a.graph.num_nodes; index += num_blocks()) {
    sums.begin(a.graph, a.crossings, index * scratch.run, scratch.run);
    if (thread_index() == 0) scratch.open[index] = sums.is_open();
    body([&](int64_t edge, const Ends<T>& part) { sums.put(scratch.parts, a.graph, edge, part); });
    sums.finish(static_cast<T*>(a.grad_pos));
  }
}

}  // namespace clof::cuda
