// Gradients by T on nodes and by the positions, for blocks that own runs of nodes: first the frames of all edges that
// the nodes have, a thread an edge; then the sums of the nodes, a warp a node; last what the positions get, a thread an
// edge.
#pragma once

#include "form_nodes.cuh"

namespace clof::cuda {

template <class T, class U, int R, class Sharing, int Edges = 3072 / int(sizeof(T))> struct TensorFormRuns {
  static constexpr int threads = 256;
  static constexpr int blocks_at_once = sizeof(T) == 8 ? 1 : 3;
  static constexpr int room = Edges;

  FormSums<T, U, R, true, Sharing> sums;
  Place role;
  PositionScratch<T> scratch;

  struct Shared {
    // A row has first the gradient by the edge's frame, then the parts of its nodes.
    PositionSums<T, Edges, 9> positions;
    FormEdge<T> edges[Edges];
  };
  static constexpr int shared_bytes(int) { return int(sizeof(Shared)); }

  CLOF_DEVICE void operator()() const {
    Shared& s = block_of<Shared>();
    over_runs(s.positions, sums.form.in.a, scratch, [&](const auto& put) {
      const EdgeRange whole = role == Place::receiver ? s.positions.run.received() : s.positions.run.sent();
      // Once also for nodes without edges, whose gradient is 0.
      int done = 0;
      do {
        add_edges(s, {whole.base + done, smaller(Edges, whole.count - done)}, done == 0, put);
        done += Edges;
      } while (done < whole.count);
    });
  }

  // The edges of a range in the order of the role; those of closed runs lie in the order of their numbers here.
  template <class Put> CLOF_DEVICE void add_edges(Shared& s, EdgeRange range, bool first, const Put& put) const {
    const Graph& graph = sums.form.in.a.graph;
    const int32_t* order = role == Place::receiver ? graph.by_receiver : graph.by_sender;
    const bool open = s.positions.is_open();
    for (int k = thread_index(); k < range.count; k += num_threads()) {
      sums.form.make_edge(s.edges[k], open ? order[range.base + k] : s.positions.run.received().base + k);
    }
    block_barrier();
    const RunNodes& nodes = s.positions.run.nodes;
    for (int node = nodes.first + warp_index(); node < nodes.last; node += num_threads() / kLanes) {
      add_node(s, range, node, first);
    }
    block_barrier();
    for (int k = thread_index(); k < range.count; k += num_threads()) {
      const FormEdge<T>& known = s.edges[k];
      const Ends<T> x = sums.form.in.ends(Rows<T>{{known.edge}});
      put(known.edge, sums.form.by_ends(x, s.positions.row(k), known.weight));
    }
    block_barrier();
  }

  // The edges of a node that are in the range. A warp calls it.
  CLOF_DEVICE void add_node(Shared& s, EdgeRange range, int node, bool first) const {
    const NodeRun<Edges>& run = s.positions.run;
    const int* start = run.start[role == Place::sender] + (node - run.nodes.begin);
    const int begin = larger(start[0] - range.base, 0), end = smaller(start[1] - range.base, range.count);
    if (begin >= end && !(first && start[0] == start[1])) return;
    const int* slot = role == Place::sender && !s.positions.is_open() ? run.slot : nullptr;
    const auto row_of = [&](int k) { return slot == nullptr ? begin + k : slot[begin + k]; };
    for (int channel = 0; channel < sums.form.channels(); channel += Sharing::channels) {
      sums.add_channels(s.edges, s.positions.row(0), node, end - begin, row_of, channel, start[0] >= range.base);
      warp_barrier();
    }
  }
};

}  // namespace clof::cuda
