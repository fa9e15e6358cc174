// project, and gradients on edges: what the form's kernel does with runs of edges in the order of their numbers.
#pragma once

#include "form.cuh"

namespace clof::cuda {

// For each edge the gradient by s; WithPos, also that by T on edges, and the sums of the gradient by the positions.
template <class T, class U, int R, bool WithPos, class Sharing> struct TensorFormEdges {
  static constexpr int q = Sharing::q;
  static constexpr int threads = WithPos ? 256 : 128;
  static constexpr int blocks_at_once = sizeof(T) == 8 ? (WithPos ? 1 : 4) : WithPos ? 3 : 7;
  // Edges of a group that are read before the first of them is computed with.
  static constexpr int kAhead = q > 1 && (WithPos || sizeof(T) == 8) ? 1 : 2;

  using Lane = GroupLane<Sharing>;
  using OnEdges = Form<T, U, R, q>;
  using Components = typename OnEdges::Components;

  OnEdges form;
  PositionScratch<T> scratch;

  // Of a warp.
  struct Run {
    FormEdge<T> edges[kLanes];
    alignas(kPieceBytes) U row[kLanes * OnEdges::width];  // on its way to memory
    T gradient[WithPos ? kLanes * 9 : 1];                 // by the frame
  };

  static constexpr int shared_bytes(int threads) {
    return threads / kLanes * int(sizeof(Run)) + (WithPos ? int(sizeof(Block<T, Run>)) : 0);
  }

  CLOF_DEVICE void operator()() const {
    const Graph& graph = form.in.a.graph;
    const int64_t warps = num_threads() / kLanes;
    if constexpr (WithPos) {
      Block<T, Run>& block = block_of<Block<T, Run>>();
      Run& run = block.runs()[warp_index()];
      over_runs(block.sums, form.in.a, scratch, [&](const auto& put) {
        const EdgeRange range = block.sums.run.received();
        for (int first = warp_index() * kLanes; first < range.count; first += int(warps) * kLanes) {
          const int count = smaller(kLanes, range.count - first);
          const bool active = lane_index() < count;
          const int64_t edge = active ? edge_at(block.sums, range.base + first + lane_index()) : 0;
          const Ends<T> x = walk(run, edge, count);
          warp_barrier();
          if (active) put(edge, form.by_ends(x, run.gradient + lane_index() * 9, T(1)));
          warp_barrier();
        }
      });
    } else {
      Run& run = block_of<Run>(warp_index());
      for (int64_t first = (block_index() * warps + warp_index()) * kLanes; first < graph.num_edges;
           first += num_blocks() * warps * kLanes) {
        walk(run, first + lane_index(), int(smaller<int64_t>(kLanes, graph.num_edges - first)));
        warp_barrier();
      }
    }
  }

  // The edge that stands there in the order by receiver; those of closed runs are sorted.
  CLOF_DEVICE int64_t edge_at(const PositionSums<T>& sums, int position) const {
    return sums.is_open() ? form.in.a.graph.by_receiver[position] : position;
  }

  // `count` edges, that of a lane its own; gives the positions of its nodes.
  CLOF_DEVICE Ends<T> walk(Run& run, int64_t edge, int count) const {
    const Ends<T> x = form.start_run(run.edges, edge, lane_index() < count);
    for (int channel = 0; channel < form.channels(); channel += Sharing::channels) walk_round(run, count, channel);
    return x;
  }

  // All edges of the run, for the channels from `first` on that the groups hold.
  CLOF_DEVICE void walk_round(Run& run, int count, int first) const {
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
    // Before results are made, which need registers, too.
    if constexpr (WithPos) {
      form.add_by_frame(run.gradient + edge * 9, lane, has_edge, first == 0, form.by_frame(frame, s, t));
    }
    if (a.grad_s != nullptr) write(run, a.grad_s, lane, has_edge, known.edge, first, form.projected(frame, t));
    if (WithPos && a.grad_t != nullptr)
      write(run, a.grad_t, lane, has_edge, known.edge, first, form.tensorized(frame, s));
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
};

}  // namespace clof::cuda
