// The form B(s, T, F(x)) with many channels, scalars or vectors, on a warp's run of up to 32 edges. First the frames, a
// lane an edge; then the channels, a group of lanes an edge, each lane with Q channels that lie side by side: four,
// which are whole pieces of memory, or one; last the positions' gradients, again a lane an edge. The formulas are those
// of csrc/functor/tensor_form.h.
#pragma once

#include "../../functor/tensor_form.h"
#include "position_sums.cuh"

namespace clof::cuda {

// How the channels of an edge are shared out: `Group` lanes have `Q` channels each, and go on to others in rounds.
template <int Group_, int Q_> struct Sharing {
  static constexpr int group = Group_, groups = kLanes / Group_, q = Q_;
  static constexpr int channels = group * q;  // of a round
};

// Calls body with the Sharing for so many channels.
template <class Body> void with_sharing(int64_t channels, const Body& body) {
  if (channels == 4) return body(Sharing<1, 4>());
  if (channels > 0 && channels % 4 == 0) return body(Sharing<4, 4>());
  if (channels <= 1) return body(Sharing<1, 1>());
  if (channels <= 4) return body(Sharing<4, 1>());
  body(Sharing<16, 1>());
}

// What a warp knows of an edge, in shared memory: read in whole pieces.
template <class T> struct alignas(kPieceBytes) FormEdge {
  T frame[9];
  T weight;
  int edge, t_row;

  CLOF_DEVICE Mat3<T> matrix() const {
    return {{frame[0], frame[1], frame[2]}, {frame[3], frame[4], frame[5]}, {frame[6], frame[7], frame[8]}};
  }
};

// Shared memory of a block that owns runs of nodes; behind it lie the warps' own parts.
template <class T, class Run> struct alignas(kPieceBytes) Block {
  PositionSums<T> sums;

  CLOF_DEVICE Run* runs() { return reinterpret_cast<Run*>(this + 1); }
};

// The shared memory, or a part of it, as an array of Memory.
template <class Memory> CLOF_DEVICE Memory& block_of(int index = 0) {
  return reinterpret_cast<Memory*>(shared_memory())[index];
}

// A lane's place in its group: it has the channels from place * q on of the edges `edge`, `edge + groups`, ...
template <class Sharing> struct GroupLane {
  int place = lane_index() % Sharing::group, edge = lane_index() / Sharing::group;
};

// Tensors of Q channels that follow one another.
template <class T, int R, int Q> struct TensorRow {
  static constexpr int size = power_of_3(R), width = Q * size;
  Tensor<T, R> at[Q];

  CLOF_DEVICE T& number(int k) { return at[k / size].at[k % size]; }
  CLOF_DEVICE T number(int k) const { return at[k / size].at[k % size]; }
};

template <class T, class U, int R, int Q> struct Form {
  using Components = TensorRow<T, R, Q>;
  static constexpr int size = Components::size, width = Components::width;
  // Numbers that one instruction moves.
  static constexpr int piece = kRowPiece<U, width>;

  TensorFormLoads<T, U, R, false> in;

  CLOF_DEVICE int channels() const { return int(in.a.channels); }

  // The edge of this lane; gives the positions of its nodes.
  CLOF_DEVICE Ends<T> start_run(FormEdge<T>* run, int64_t edge, bool active) const {
    Ends<T> x{};
    if (active) x = make_edge(run[lane_index()], edge);
    warp_barrier();
    return x;
  }

  CLOF_DEVICE Ends<T> make_edge(FormEdge<T>& to, int64_t edge) const {
    const Rows<T> row{{edge}};
    if (in.a.s != nullptr) prefetch_row(in.a.s, edge);
    const Ends<T> x = in.ends(row);
    FormEdge<T> made;
    const Numbers<T, 9> frame = numbers(edge_frame(in.a.mode, x));
#pragma unroll
    for (int k = 0; k < 9; ++k) made.frame[k] = frame.at[k];
    made.weight = in.weight(row);
    made.edge = int(edge);
    made.t_row = int(in.rows_of_t(row).at[0]);
    to = made;
    return x;
  }

  CLOF_DEVICE const U* at(const void* base, int64_t row, int channel) const {
    return static_cast<const U*>(base) + (row * channels() + channel) * size;
  }

  // Asks for the beginning of a row, which is read when the frames are made.
  CLOF_DEVICE void prefetch_row(const void* base, int64_t row) const {
    constexpr int line = 128 / int(sizeof(U)), most = 2;
    const U* from = at(base, row, 0);
#pragma unroll
    for (int k = 0; k < most; ++k) {
      if (k * line < channels() * size) prefetch(from + k * line);
    }
  }

  // The channels from `channel` on of a row.
  CLOF_DEVICE Components load(const void* base, int64_t row, int channel) const {
    const U* from = at(base, row, channel);
    Components out;
#pragma unroll
    for (int k = 0; k < width; k += piece) {
      const Piece<U, piece> x = *reinterpret_cast<const Piece<U, piece>*>(from + k);
#pragma unroll
      for (int i = 0; i < piece; ++i) out.number(k + i) = widen(x.at[i]);
    }
    return out;
  }

  CLOF_DEVICE static Components scaled(T weight, Components tensors) {
#pragma unroll
    for (int k = 0; k < width; ++k) tensors.number(k) = weight * tensors.number(k);
    return tensors;
  }
  CLOF_DEVICE static Components projected(const Mat3<T>& frame, Components tensors) {
#pragma unroll
    for (Tensor<T, R>& x : tensors.at) x = project(frame, x);
    return tensors;
  }
  CLOF_DEVICE static Components tensorized(const Mat3<T>& frame, Components scalars) {
#pragma unroll
    for (Tensor<T, R>& x : scalars.at) x = tensorize(frame, x);
    return scalars;
  }
  // The gradient by the frame, of these channels.
  CLOF_DEVICE static Mat3<T> by_frame(const Mat3<T>& frame, const Components& s, const Components& t) {
    Mat3<T> gradient{};
#pragma unroll
    for (int q = 0; q < Q; ++q) add_form_frame_vjp(frame, s.at[q], t.at[q], gradient);
    return gradient;
  }

  // Adds to the gradient by the frame of an edge, or begins it, summed over the channels of the edge's group of lanes,
  // all of which call it.
  template <class Sharing> CLOF_DEVICE static void add_by_frame(T* to, GroupLane<Sharing> lane, bool has_edge,
                                                                bool begins, const Mat3<T>& gradient) {
    Numbers<T, 9> part = numbers(gradient);
    const SharedSums<Sharing::group, T> mine(part.at);
    if (has_edge && lane.place == 0) to[8] = part.at[8] + (begins ? T(0) : to[8]);
    // Of lanes with the same sums the first one writes.
    if (!has_edge || lane.place % mine.same != 0) return;
    to += mine.number;
#pragma unroll
    for (int k = 0; k < mine.count; ++k) to[k] = part.at[k] + (begins ? T(0) : to[k]);
  }

  // Gradients by the positions of the two ends, given that by the frame, times `weight`.
  CLOF_DEVICE Ends<T> by_ends(Ends<T> x, const T* g, T weight) const {
    const Mat3<T> gradient{{g[0], g[1], g[2]}, {g[3], g[4], g[5]}, {g[6], g[7], g[8]}};
    return edge_frame_vjp(frame_parts(in.a.mode, x), x,
                          {weight * gradient.a, weight * gradient.b, weight * gradient.c});
  }
};

}  // namespace clof::cuda
