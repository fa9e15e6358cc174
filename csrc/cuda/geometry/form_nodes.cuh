// aggregate, and gradients on nodes: what the form's kernel does with the edges of each node.
#pragma once

#include "form.cuh"

namespace clof::cuda {

// For each node that T lives on, a warp a node: the gradient by T, summed over the node's edges in the order of the
// plan, and (WithPos) the edges' parts of the gradient by its position, summed, and by that of their other node.
template <class T, class U, int R, bool WithPos, int Group> struct TensorFormNodes {
  static constexpr int blocks_at_once = sizeof(T) == 8 ? 3 : 5;
  static constexpr int size = power_of_3(R);
  // Lanes that read a channel each, of rows one after the other, fall on different banks.
  static constexpr int row_width = Group * size | 1;
  // Edges of a group that are read before the first of them is written; all groups' together divide a run.
  static constexpr int kAhead = Group < 4 ? Group : 4;

  using Lane = GroupLane<Group>;

  Form<T, U, R> form;
  Place role;
  T* parts;  // (E, 3)

  struct Run : FormRun<T> {
    T s[kLanes * row_width];  // a row an edge
    T t[Group * size];
  };

  CLOF_DEVICE void operator()() const {
    const Graph& graph = form.in.a.graph;
    const int32_t* start = role == Place::receiver ? graph.receiver_start : graph.sender_start;
    const int64_t warps = num_threads() / kLanes;
    for (int64_t node = block_index() * warps + warp_index(); node < graph.num_nodes; node += num_blocks() * warps) {
      add_edges(node, start[node], start[node + 1]);
    }
  }

  CLOF_DEVICE void add_edges(int64_t node, int begin, int end) const {
    const Graph& graph = form.in.a.graph;
    const int32_t* order = role == Place::receiver ? graph.by_receiver : graph.by_sender;
    Run& run = run_of_warp<Run>();
    Vec3<T> total{};
    // Also for a node without edges, whose gradient is 0.
    int first = begin;
    do {
      const int count = smaller(kLanes, end - first);
      const bool active = lane_index() < count;
      const int64_t edge = active ? order[first + lane_index()] : 0;
      const Ends<T> x = form.start_run(run, edge, active);
      Mat3<T> gradient{};
      for (int channel = 0; channel < form.channels(); channel += Group) {
        read(run, node, count, channel);
        add_channels(run, node, count, channel, first == begin);
        if (WithPos && active) add_gradient(run, channel, gradient);
        warp_barrier();
      }
      if (WithPos && active) {
        const T weight = run.weight[lane_index()];
        const Ends<T> grad = form.by_ends(x, {weight * gradient.a, weight * gradient.b, weight * gradient.c});
        total = total + (role == Place::receiver ? grad.i : grad.j);
        store_rows(parts, edge, numbers(role == Place::receiver ? grad.j : grad.i));
      }
      warp_barrier();
      first += kLanes;
    } while (first < end);
    if constexpr (WithPos) {
      const Vec3<T> sum{sum_over_lanes(total.x, 1, kLanes), sum_over_lanes(total.y, 1, kLanes),
                        sum_over_lanes(total.z, 1, kLanes)};
      if (lane_index() == 0) store_rows(static_cast<T*>(form.in.a.grad_pos), node, numbers(sum));
    }
  }

  // Numbers of a row that belong to the channels from `first` on that the groups hold.
  CLOF_DEVICE int width(int first) const { return smaller(Group, form.channels() - first) * size; }

  // Brings these channels of all edges of the run, and of the node's T, to shared memory, number by number as they lie.
  // Lanes without a number of their own read and write one that nobody looks at: conditions would take longer.
  CLOF_DEVICE void read(Run& run, int64_t node, int count, int first) const {
    const Lane lane;
    const int width = this->width(first), row = form.channels() * size;
    const U* s = static_cast<const U*>(form.in.a.s) + first * size;
    int at[size];
#pragma unroll
    for (int c = 0; c < size; ++c) at[c] = smaller(lane.channel + c * Group, width - 1);
#pragma unroll 1
    for (int base = 0; base < count; base += kAhead * lane.groups) {
      T number[kAhead][size];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const U* from = s + int64_t(run.edge[smaller(base + k * lane.groups + lane.edge, count - 1)]) * row;
#pragma unroll
        for (int c = 0; c < size; ++c) number[k][c] = widen(from[at[c]]);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        T* to = run.s + (base + k * lane.groups + lane.edge) * row_width + lane.channel;
#pragma unroll
        for (int c = 0; c < size; ++c) to[c * Group] = number[k][c];
      }
    }
    if constexpr (WithPos) {
      const U* t = static_cast<const U*>(form.in.a.t) + node * row + first * size;
#pragma unroll 1
      for (int k = lane_index(); k < width; k += kLanes) run.t[k] = widen(t[k]);
    }
    warp_barrier();
  }

  CLOF_DEVICE static Tensor<T, R> tensor(const T* at) {
    Tensor<T, R> out;
#pragma unroll
    for (int c = 0; c < size; ++c) out.at[c] = at[c];
    return out;
  }

  // A lane's channel of the node's sum, over all edges of the run: begins it or adds to it.
  CLOF_DEVICE void add_channels(const Run& run, int64_t node, int count, int first, bool begins) const {
    const Lane lane;
    const int at = lane.channel * size;
    const bool has_channel = at < width(first);
    Tensor<T, R> sum{};
#pragma unroll 2
    for (int edge = lane.edge; has_channel && edge < count; edge += lane.groups) {
      const Tensor<T, R> s = tensor(run.s + edge * row_width + at);
      const Tensor<T, R> part = form.scaled(run.weight[edge], tensorize(form.matrix(run.frame + edge * 9), s));
#pragma unroll
      for (int c = 0; c < size; ++c) sum.at[c] += part.at[c];
    }
#pragma unroll
    for (T& x : sum.at) x = sum_over_lanes(x, lane.group, kLanes);
    if (lane.edge != 0 || !has_channel) return;
    T* to = static_cast<T*>(form.in.a.grad_t) + (node * form.channels() + first) * size + at;
#pragma unroll
    for (int c = 0; c < size; ++c) to[c] = (begins ? T(0) : to[c]) + sum.at[c];
  }

  // Adds these channels' part of the gradient by the frame of this lane's edge, not yet weighted.
  CLOF_DEVICE void add_gradient(const Run& run, int first, Mat3<T>& gradient) const {
    const Mat3<T> frame = form.matrix(run.frame + lane_index() * 9);
    const int width = this->width(first);
#pragma unroll 4
    for (int at = 0; at < width; at += size) {
      const Tensor<T, R> s = tensor(run.s + lane_index() * row_width + at);
      add_form_frame_vjp(frame, s, tensor(run.t + at), gradient);
    }
  }
};

}  // namespace clof::cuda
