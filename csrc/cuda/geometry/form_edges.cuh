// project, and gradients on edges: what the form's kernel does with runs of edges in the order of their numbers.
#pragma once

#include "form.cuh"

namespace clof::cuda {

// For each edge, in the order of their numbers: the gradient by s, by T on edges, and (WithPos) the parts of the
// gradient by the positions, which belong to the receiver and to the sender.
template <class T, class U, int R, bool WithPos, int Group> struct TensorFormEdges {
  static constexpr int blocks_at_once = sizeof(T) == 8 ? 4 : WithPos ? 6 : 7;
  // Edges of a group that are read before the first of them is computed with.
  static constexpr int kAhead = 2;

  using Lane = GroupLane<Group>;

  Form<T, U, R> form;
  T* parts;  // (2, E, 3)

  struct Run : FormRun<T> {
    T gradient[kLanes * 9];         // by the frame
    U row[kLanes * power_of_3(R)];  // on its way to memory
  };

  CLOF_DEVICE void operator()() const {
    const int64_t edges = form.in.a.graph.num_edges, warps = num_threads() / kLanes;
    Run& run = run_of_warp<Run>();
    for (int64_t first = (block_index() * warps + warp_index()) * kLanes; first < edges;
         first += num_blocks() * warps * kLanes) {
      const int count = int(smaller<int64_t>(kLanes, edges - first));
      const bool active = lane_index() < count;
      const Ends<T> x = form.start_run(run, first + lane_index(), active);
      for (int channel = 0; channel < form.channels(); channel += Group) walk(run, count, channel);
      if constexpr (WithPos) {
        warp_barrier();
        Ends<T> grad{};
        if (active) grad = form.by_ends(x, form.matrix(run.gradient + lane_index() * 9));
        write_vectors(run, parts + first * 3, count, grad.i);
        write_vectors(run, parts + (edges + first) * 3, count, grad.j);
      }
      warp_barrier();
    }
  }

  // All edges of the run, for the channels from `first` on that the groups hold.
  CLOF_DEVICE void walk(Run& run, int count, int first) const {
    const TensorFormArguments& a = form.in.a;
    const Lane lane;
    const int channel = first + lane.channel;
    for (int base = 0; base < count; base += kAhead * lane.groups) {
      Tensor<T, R> s[kAhead] = {}, t[kAhead] = {};
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int edge = base + k * lane.groups + lane.edge;
        const bool active = edge < count && channel < form.channels();
        if (active && a.s != nullptr) s[k] = form.load_s(run.edge[edge], channel);
        if (active && a.t != nullptr) t[k] = form.load_t(run.t_row[edge], channel);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int edge = base + k * lane.groups + lane.edge;
        if (edge - lane.edge < count) write_edge(run, lane, edge < count, edge < count ? edge : 0, first, s[k], t[k]);
      }
    }
  }

  // The edge of a group, if it has one. All lanes of the warp call it.
  CLOF_DEVICE void write_edge(Run& run, Lane lane, bool has_edge, int edge, int first, const Tensor<T, R>& s,
                              Tensor<T, R> t) const {
    const TensorFormArguments& a = form.in.a;
    const Mat3<T> frame = form.matrix(run.frame + edge * 9);
    t = form.scaled(run.weight[edge], t);
    if (a.grad_s != nullptr) write(run, a.grad_s, lane, has_edge, run.edge[edge], first, project(frame, t));
    if (a.grad_t != nullptr) write(run, a.grad_t, lane, has_edge, run.edge[edge], first, tensorize(frame, s));
    if constexpr (WithPos) add_gradient(run, lane, has_edge, edge, first == 0, form_frame_vjp(frame, s, t));
  }

  // Writes the channels of a group that begin at `first` to the edge's row, side by side as they lie in memory. All
  // lanes of the warp call it.
  CLOF_DEVICE void write(Run& run, void* to, Lane lane, bool has_edge, int edge, int first,
                         const Tensor<T, R>& value) const {
    constexpr int size = power_of_3(R);
    const int channels = form.channels();
#pragma unroll
    for (int c = 0; c < size; ++c) run.row[lane_index() * size + c] = Narrow<U>::from(value.at[c]);
    warp_barrier();
    const U* from = run.row + lane.edge * lane.group * size;
    U* row = static_cast<U*>(to) + (int64_t(edge) * channels + first) * size;
    const int count = smaller(lane.group, channels - first) * size;
#pragma unroll
    for (int c = 0; c < size; ++c) {
      const int at = lane.channel + c * lane.group;
      if (has_edge && at < count) row[at] = from[at];
    }
    warp_barrier();
  }

  // Adds a gradient by the frame, summed over the group's channels, to that of the run's edge. All lanes call it.
  CLOF_DEVICE static void add_gradient(Run& run, Lane lane, bool has_edge, int edge, bool first,
                                       const Mat3<T>& gradient) {
    Numbers<T, 9> part = numbers(gradient);
    const SharedSums<Group, T> mine(part.at);
    T* to = run.gradient + edge * 9;
    if (has_edge && lane.channel == 0) to[8] = part.at[8] + (first ? T(0) : to[8]);
    // Of lanes with the same sums the first one writes.
    if (!has_edge || lane.channel % (mine.count == 1 ? Group / 8 : Group) != 0) return;
    to += mine.number;
#pragma unroll
    for (int k = 0; k < mine.count; ++k) to[k] = part.at[k] + (first ? T(0) : to[k]);
  }

  // A vector of each lane, to rows that follow one another.
  CLOF_DEVICE static void write_vectors(Run& run, T* to, int count, Vec3<T> v) {
    warp_barrier();
    T* row = run.gradient + lane_index() * 3;
    row[0] = v.x;
    row[1] = v.y;
    row[2] = v.z;
    warp_barrier();
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      const int at = c * kLanes + lane_index();
      if (at < count * 3) to[at] = run.gradient[at];
    }
  }
};

}  // namespace clof::cuda
