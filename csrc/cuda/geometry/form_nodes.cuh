// aggregate, and gradients on nodes: what the form's kernel does with the edges of each node.
#pragma once

#include "form.cuh"

namespace clof::cuda {

// For each node that T lives on, a warp a node: the gradient by T, summed over the node's edges in the order of the
// plan; WithPos, also the sums of the gradient by the positions.
template <class T, class U, int R, bool WithPos, class Sharing> struct TensorFormNodes {
  static constexpr int q = Sharing::q;
  static constexpr int threads = WithPos ? 256 : 128;
  static constexpr int blocks_at_once = sizeof(T) == 8 ? (WithPos ? 1 : 3) : WithPos ? 3 : 6;
  // Edges of a group that are read before the first of them is computed with.
  static constexpr int kAhead = q == 1 ? 4 : WithPos || sizeof(T) == 8 ? 1 : 2;

  using Lane = GroupLane<Sharing>;
  using OnEdges = Form<T, U, R, q>;
  using Components = typename OnEdges::Components;

  OnEdges form;
  Place role;
  PositionScratch<T> scratch;

  // Of a warp.
  struct Run {
    FormEdge<T> edges[kLanes];
    T gradient[WithPos ? kLanes * 9 : 1];  // by the frame
  };

  CLOF_DEVICE void operator()() const {
    const Graph& graph = form.in.a.graph;
    const int warps = num_threads() / kLanes;
    if constexpr (WithPos) {
      Block<T, Run>& block = block_of<Block<T, Run>>();
      over_runs(block.sums, form.in.a, scratch, [&](const auto& put) {
        const RunNodes& nodes = block.sums.run.nodes;
        for (int node = nodes.first + warp_index(); node < nodes.last; node += warps) {
          const auto edge = [&](int position) { return block.sums.edge(graph, role, position); };
          add_edges(block.runs()[warp_index()], node, block.sums.start(role, node), block.sums.start(role, node + 1),
                    edge, put);
        }
      });
    } else {
      Run& run = block_of<Run>(warp_index());
      const int32_t* start = role == Place::receiver ? graph.receiver_start : graph.sender_start;
      const int32_t* order = role == Place::receiver ? graph.by_receiver : graph.by_sender;
      const int64_t step = int64_t(num_blocks()) * warps;
      for (int64_t node = int64_t(block_index()) * warps + warp_index(); node < graph.num_nodes; node += step) {
        const auto edge = [&](int position) { return order[position]; };
        add_edges(run, node, start[node], start[node + 1], edge, [](int64_t, const Ends<T>&) {});
      }
    }
  }

  // A node's edges, which stand from `begin` to `end` in the order of the plan; edge_at(position) is an edge's number,
  // put(edge, parts) takes its parts of the gradient by the positions.
  template <class EdgeAt, class Put>
  CLOF_DEVICE void add_edges(Run& run, int64_t node, int begin, int end, const EdgeAt& edge_at, const Put& put) const {
    // Also for a node without edges, whose gradient is 0.
    int first = begin;
    do {
      const int count = smaller(kLanes, end - first);
      const bool active = lane_index() < count;
      const int64_t edge = active ? edge_at(first + lane_index()) : 0;
      const Ends<T> x = form.start_run(run.edges, edge, active);
      for (int channel = 0; channel < form.channels(); channel += Sharing::channels) {
        add_channels(run, node, count, channel, first == begin);
      }
      warp_barrier();
      if (WithPos && active) {
        put(edge, form.by_ends(x, run.gradient + lane_index() * 9, run.edges[lane_index()].weight));
      }
      warp_barrier();
      first += kLanes;
    } while (first < end);
  }

  // The channels from `first` on that the groups hold, over all edges of the run: their part of the gradients by the
  // frames, and of the node's sum, which is begun or added to.
  CLOF_DEVICE void add_channels(Run& run, int64_t node, int count, int first, bool begins) const {
    const TensorFormArguments& a = form.in.a;
    const Lane lane;
    const int channel = first + lane.place * q;
    const bool has_channel = channel < form.channels();
    Components sum{}, t{};
    if (WithPos && has_channel) t = form.load(a.t, node, channel);
#pragma unroll 1
    for (int base = 0; base < count; base += kAhead * Sharing::groups) {
      Components s[kAhead] = {};
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int edge = base + k * Sharing::groups + lane.edge;
        if (has_channel && edge < count) s[k] = form.load(a.s, run.edges[edge].edge, channel);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (base + k * Sharing::groups >= count) break;
        const int edge = base + k * Sharing::groups + lane.edge;
        const bool has_edge = edge < count;
        const FormEdge<T>& known = run.edges[has_edge ? edge : 0];
        const Mat3<T> frame = known.matrix();
        // Lanes without an edge add zeros.
        const Components part = form.scaled(has_edge ? known.weight : T(0), form.tensorized(frame, s[k]));
#pragma unroll
        for (int c = 0; c < OnEdges::width; ++c) sum.number(c) += part.number(c);
        if constexpr (WithPos) {
          form.add_by_frame(run.gradient + edge * 9, lane, has_edge, first == 0, form.by_frame(frame, s[k], t));
        }
      }
    }
    write_sum(node, channel, lane.edge == 0 && has_channel, begins, sum);
  }

  // Adds up what the groups have of a lane's channels; one of them writes it. All lanes of the warp call it.
  CLOF_DEVICE void write_sum(int64_t node, int channel, bool writes, bool begins, Components sum) const {
    constexpr int width = OnEdges::width;
    T* to = static_cast<T*>(form.in.a.grad_t) + (node * form.channels() + channel) * OnEdges::size;
    Numbers<T, width> total{};
#pragma unroll
    for (int c = 0; c < width; ++c) {
      total.at[c] = sum_over_lanes<Sharing::group>(sum.number(c));
    }
    if (!writes) return;
    if (!begins) {
#pragma unroll
      for (int c = 0; c < width; ++c) total.at[c] += to[c];
    }
    store_row<width, width>(to, total);
  }
};

}  // namespace clof::cuda
