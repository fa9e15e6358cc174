// aggregate, and gradients on nodes: what the form's kernels do with the edges of each node.
#pragma once

#include "form.cuh"

namespace clof::cuda {

// Sums over the edges of a node, which a warp makes: the gradient by T.
template <class T, class U, int R, bool WithPos, class Sharing> struct FormSums {
  static constexpr int q = Sharing::q;
  // Edges of a group that are read before the first of them is computed with.
  static constexpr int kAhead = q == 1 ? 4 : WithPos || sizeof(T) == 8 ? 1 : 2;

  using Lane = GroupLane<Sharing>;
  using OnEdges = Form<T, U, R, q>;
  using Components = typename OnEdges::Components;

  OnEdges form;

  // `count` edges of a node, of which the k-th is the row row_of(k) of `edges`: the channels from `first` on that the
  // groups hold, of the node's sum, which is begun or added to, and (WithPos) of the rows of `gradients` by the frames.
  template <class RowOf> CLOF_DEVICE void add_channels(const FormEdge<T>* edges, T* gradients, int64_t node, int count,
                                                       const RowOf& row_of, int first, bool begins) const {
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
        if (has_channel && edge < count) s[k] = form.load(a.s, edges[row_of(edge)].edge, channel);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (base + k * Sharing::groups >= count) break;
        const int edge = base + k * Sharing::groups + lane.edge;
        const bool has_edge = edge < count;
        const int row = row_of(has_edge ? edge : 0);
        const FormEdge<T>& known = edges[row];
        const Mat3<T> frame = known.matrix();
        // Lanes without an edge add zeros.
        const Components part = form.scaled(has_edge ? known.weight : T(0), form.tensorized(frame, s[k]));
#pragma unroll
        for (int c = 0; c < OnEdges::width; ++c) sum.number(c) += part.number(c);
        if constexpr (WithPos) {
          form.add_by_frame(gradients + row * 9, lane, has_edge, first == 0, form.by_frame(frame, s[k], t));
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

// aggregate: for each node that T lives on, a warp a node, the gradient by T, summed over the node's edges in the order
// of the plan.
template <class T, class U, int R, class Sharing> struct TensorFormNodes {
  static constexpr int threads = 128;
  static constexpr int blocks_at_once = sizeof(T) == 8 ? 3 : 6;

  FormSums<T, U, R, false, Sharing> sums;
  Place role;

  // Of a warp.
  struct Run {
    FormEdge<T> edges[kLanes];
  };
  static constexpr int shared_bytes(int threads) { return threads / kLanes * int(sizeof(Run)); }

  CLOF_DEVICE void operator()() const {
    const Graph& graph = sums.form.in.a.graph;
    const int32_t* start = role == Place::receiver ? graph.receiver_start : graph.sender_start;
    const int warps = num_threads() / kLanes;
    const int64_t step = int64_t(num_blocks()) * warps;
    for (int64_t node = int64_t(block_index()) * warps + warp_index(); node < graph.num_nodes; node += step) {
      add_edges(node, start[node], start[node + 1]);
    }
  }

  CLOF_DEVICE void add_edges(int64_t node, int begin, int end) const {
    const Graph& graph = sums.form.in.a.graph;
    const int32_t* order = role == Place::receiver ? graph.by_receiver : graph.by_sender;
    Run& run = block_of<Run>(warp_index());
    // Also for a node without edges, whose gradient is 0.
    int first = begin;
    do {
      const int count = smaller(kLanes, end - first);
      const bool active = lane_index() < count;
      sums.form.start_run(run.edges, active ? order[first + lane_index()] : 0, active);
      for (int channel = 0; channel < sums.form.channels(); channel += Sharing::channels) {
        sums.add_channels(run.edges, nullptr, node, count, [](int k) { return k; }, channel, first == begin);
      }
      warp_barrier();
      first += kLanes;
    } while (first < end);
  }
};

}  // namespace clof::cuda
