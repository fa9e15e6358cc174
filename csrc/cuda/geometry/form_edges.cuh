// project, and gradients on edges: what the form's kernel does with runs of edges in the order of their numbers.
#pragma once

#include "form.cuh"

namespace clof::cuda {

// For each edge, in the order of their numbers: the gradient by s and, WithPos, that by T on edges and the parts of the
// gradient by the positions, which belong to the receiver and to the sender.
template <class T, class U, int R, bool WithPos, class Sharing> struct TensorFormEdges {
  static constexpr int q = Sharing::q;
  static constexpr int blocks_at_once = sizeof(T) == 8 ? (q == 1 ? 4 : 3) : WithPos ? 6 : 7;
  // Edges of a group that are read before the first of them is computed with.
  static constexpr int kAhead = q > 1 && (WithPos || sizeof(T) == 8) ? 1 : 2;

  using Lane = GroupLane<Sharing>;
  using OnEdges = Form<T, U, R, q>;
  using Components = typename OnEdges::Components;

  OnEdges form;
  T* parts;  // (2, E, 3)

  struct Run {
    FormEdge<T> edges[kLanes];
    alignas(kPieceBytes) U row[kLanes * OnEdges::width];  // on its way to memory
    T gradient[kLanes * 9];                               // by the frame
  };

  CLOF_DEVICE void operator()() const {
    const int64_t edges = form.in.a.graph.num_edges, warps = num_threads() / kLanes;
    Run& run = run_of_warp<Run>();
    for (int64_t first = (block_index() * warps + warp_index()) * kLanes; first < edges;
         first += num_blocks() * warps * kLanes) {
      const int count = int(smaller<int64_t>(kLanes, edges - first));
      const bool active = lane_index() < count;
      const Ends<T> x = form.start_run(run.edges, first + lane_index(), active);
      for (int channel = 0; channel < form.channels(); channel += Sharing::channels) walk(run, count, channel);
      if constexpr (WithPos) {
        warp_barrier();
        Ends<T> grad{};
        if (active) grad = form.by_ends(x, run.gradient + lane_index() * 9, T(1));
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
    const int channel = first + lane.place * q;
#pragma unroll 1
    for (int base = 0; base < count; base += kAhead * Sharing::groups) {
      Components s[kAhead] = {}, t[kAhead] = {};
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int edge = base + k * Sharing::groups + lane.edge;
        const bool active = edge < count && channel < form.channels();
        if (WithPos && active && a.s != nullptr) s[k] = form.load(a.s, run.edges[edge].edge, channel);
        if (active && a.t != nullptr) t[k] = form.load(a.t, run.edges[edge].t_row, channel);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int edge = base + k * Sharing::groups + lane.edge;
        if (edge - lane.edge < count) write_edge(run, lane, edge < count, edge < count ? edge : 0, first, s[k], t[k]);
      }
    }
  }

  // The edge of a group, if it has one. All lanes of the warp call it.
  CLOF_DEVICE void write_edge(Run& run, Lane lane, bool has_edge, int edge, int first, const Components& s,
                              Components t) const {
    const TensorFormArguments& a = form.in.a;
    const FormEdge<T> known = run.edges[edge];
    const Mat3<T> frame = known.matrix();
    t = form.scaled(known.weight, t);
    if (a.grad_s != nullptr) write(run, a.grad_s, lane, has_edge, known.edge, first, form.projected(frame, t));
    if (WithPos && a.grad_t != nullptr)
      write(run, a.grad_t, lane, has_edge, known.edge, first, form.tensorized(frame, s));
    if constexpr (WithPos) {
      form.add_by_frame(run.gradient + edge * 9, lane, has_edge, first == 0, form.by_frame(frame, s, t));
    }
  }

  // Writes the channels of a group that begin at `first` to the edge's row, side by side as they lie in memory: a warp
  // that wrote its lanes' channels would write parts of sectors. All lanes of the warp call it.
  CLOF_DEVICE void write(Run& run, void* to, Lane lane, bool has_edge, int64_t edge, int first,
                         const Components& value) const {
    constexpr int size = OnEdges::size, width = OnEdges::width, piece = OnEdges::piece;
    using Pieces = Piece<U, piece>;
    U* mine = run.row + lane_index() * width;
#pragma unroll
    for (int k = 0; k < width; k += piece) {
      Pieces x;
#pragma unroll
      for (int i = 0; i < piece; ++i) x.at[i] = Narrow<U>::from(value.number(k + i));
      *reinterpret_cast<Pieces*>(mine + k) = x;
    }
    warp_barrier();
    const U* from = run.row + lane.edge * Sharing::group * width;
    U* row = static_cast<U*>(to) + (edge * form.channels() + first) * size;
    const int count = smaller(Sharing::channels, form.channels() - first) * size;
#pragma unroll
    for (int k = 0; k < width; k += piece) {
      const int at = k * Sharing::group + lane.place * piece;
      if (has_edge && at < count) *reinterpret_cast<Pieces*>(row + at) = *reinterpret_cast<const Pieces*>(from + at);
    }
    warp_barrier();
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
