// project and aggregate for many channels: the frames of a register full of edges at once, then edge by edge a register
// full of channels, whose numbers lie side by side in memory. The formulas are those of csrc/functor/tensor_form.h.
#pragma once

#include "../../functor/tensor_form.h"
#include "loops.h"

namespace clof {
inline namespace CLOF_ISA {

// A call for each channel would cost as much as what it does.
#define CLOF_INLINE_LAMBDA __attribute__((always_inline))

// Whether the channels of an edge fill a register. Scalars and vectors only: from order 2 on the numbers of a register
// full of channels overflow the registers, as those of a register full of edges do, and compiling both takes minutes.
template <class T, int R> bool many_channels(const TensorFormArguments& a) {
  return R <= 1 && lanes_of<Register<T>> > 1 && a.channels >= lanes_of<Register<T>>;
}

// Tensors of consecutive channels, `lanes_of<P>` of them, lie side by side in a row: component c of the k-th at
// row[k * size + c]. Whole registers are read and written; their numbers are exchanged inside them.
template <class P, int R> struct ChannelRow {
  static constexpr int size = power_of_3(R);

  template <class U> static CLOF_HD Tensor<P, R> load(const U* row) {
    Tensor<P, R> out;
    for (int c = 0; c < size; ++c) out.at[c] = P(widen(row[c]));
    return out;
  }
  template <class U> static CLOF_HD void store(U* row, const Tensor<P, R>& value) {
    for (int c = 0; c < size; ++c) row[c] = Narrow<U>::from(value.at[c]);
  }
  static CLOF_HD void add(P* row, const Tensor<P, R>& value) {
    for (int c = 0; c < size; ++c) row[c] += value.at[c];
  }
};

template <class T, int R> struct ChannelRow<Pack<T>, R> {
  static constexpr int size = power_of_3(R), width = Pack<T>::width;

  template <class U> static CLOF_HD Tensor<Pack<T>, R> load(const U* row) {
    Tensor<Pack<T>, R> out;
    for (int i = 0; i < size; ++i) out.at[i] = load_side_by_side<T>(row + i * width);
    split_rows(out.at);
    return out;
  }
  template <class U> static CLOF_HD void store(U* row, Tensor<Pack<T>, R> value) {
    join_rows(value.at);
    for (int i = 0; i < size; ++i) store_side_by_side(row + i * width, value.at[i]);
  }
  static CLOF_HD void add(T* row, Tensor<Pack<T>, R> value) {
    join_rows(value.at);
    for (int i = 0; i < size; ++i) {
      store_side_by_side(row + i * width, load_side_by_side<T>(row + i * width) + value.at[i]);
    }
  }
};

// The frames of the lanes of S, each to be taken out as one that is the same in all lanes of P.
template <class S> struct FrameLanes {
  Lanes<S> at[9];

  CLOF_HD explicit FrameLanes(const Mat3<S>& m)
      : at{Lanes<S>(m.a.x), Lanes<S>(m.a.y), Lanes<S>(m.a.z), Lanes<S>(m.b.x), Lanes<S>(m.b.y),
           Lanes<S>(m.b.z), Lanes<S>(m.c.x), Lanes<S>(m.c.y), Lanes<S>(m.c.z)} {}

  template <class P> CLOF_HD Mat3<P> of(int lane) const {
    const auto number = [&](int i) { return P(at[i].at[lane]); };
    return {{number(0), number(1), number(2)}, {number(3), number(4), number(5)}, {number(6), number(7), number(8)}};
  }
};

// Sums over the lanes of P, for each lane of S.
template <class T> CLOF_HD T sums_of_lanes(const T (&x)[1]) { return x[0]; }
template <class T> CLOF_HD T sums_of_lanes(const Pack<T> (&x)[1]) {
  const Lanes<Pack<T>> lanes(x[0]);
  T sum = 0;
  for (T lane : lanes.at) sum += lane;
  return sum;
}

// The numbers of a matrix in a column of an array. One by one: as an array they would pass through memory once more.
template <class P, int Lanes> CLOF_HD void set_numbers(P (&to)[9][Lanes], int lane, const Mat3<P>& m) {
  to[0][lane] = m.a.x, to[1][lane] = m.a.y, to[2][lane] = m.a.z;
  to[3][lane] = m.b.x, to[4][lane] = m.b.y, to[5][lane] = m.b.z;
  to[6][lane] = m.c.x, to[7][lane] = m.c.y, to[8][lane] = m.c.z;
}
template <class P, int Lanes> CLOF_HD void add_numbers(P (&to)[9][Lanes], int lane, const Mat3<P>& m) {
  const auto sum = [&](int i, P x) { return to[i][lane] + x; };
  set_numbers(to, lane,
              Mat3<P>{{sum(0, m.a.x), sum(1, m.a.y), sum(2, m.a.z)},
                      {sum(3, m.b.x), sum(4, m.b.y), sum(5, m.b.z)},
                      {sum(6, m.c.x), sum(7, m.c.y), sum(8, m.c.z)}});
}

// Calls body(P(), channel) for all channels, registers of them first.
template <class T, class Body> CLOF_HD void for_channels(int64_t channels, const Body& body) {
  using P = Register<T>;
  int64_t channel = 0;
  for (; channel + lanes_of<P> <= channels; channel += lanes_of<P>) body(P(), channel);
  for (; channel < channels; ++channel) body(T(), channel);
}

template <class P, int R> CLOF_HD void scale(Tensor<P, R>& tensor, underlying_t<P> factor) {
  for (P& x : tensor.at) x = x * P(factor);
}

template <class T, class U, int R> struct ChannelMap {
  TensorFormLoads<T, U, R, false> in;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t channels) const {
    constexpr int size = power_of_3(R);
    const TensorFormArguments& a = in.a;
    const Rows<S> edge = consecutive<S>(first), t_row = in.rows_of_t(edge);
    const FrameLanes<S> frames(edge_frame(a.mode, in.template ends<S>(edge)));
    const Lanes<S> weight(in.template weight<S>(edge));
    for (int lane = 0; lane < lanes_of<S>; ++lane) {
      const auto row = [&](const void* base, int64_t number) {
        return static_cast<const U*>(base) + number * channels * size;
      };
      const U* s = a.s ? row(a.s, edge.at[lane]) : nullptr;
      const U* t = row(a.t, t_row.at[lane]);
      U* grad_s = a.grad_s ? const_cast<U*>(row(a.grad_s, edge.at[lane])) : nullptr;
      U* grad_t = a.place == Place::edge && a.grad_t ? const_cast<U*>(row(a.grad_t, edge.at[lane])) : nullptr;
      for_channels<T>(channels, [&](auto register_of, int64_t channel) CLOF_INLINE_LAMBDA {
        using P = decltype(register_of);
        const Mat3<P> frame = frames.template of<P>(lane);
        if (grad_s != nullptr) {
          Tensor<P, R> tensor = ChannelRow<P, R>::load(t + channel * size);
          if (a.mean) scale(tensor, weight.at[lane]);
          ChannelRow<P, R>::store(grad_s + channel * size, project(frame, tensor));
        }
        if (grad_t != nullptr) {
          ChannelRow<P, R>::store(grad_t + channel * size,
                                  tensorize(frame, ChannelRow<P, R>::load(s + channel * size)));
        }
      });
    }
  }
};

// WithPos: the gradient by the position is wanted, too.
template <class T, class U, int R, bool WithPos> struct ChannelSum {
  TensorFormLoads<T, U, R, false> in;
  Place role;

  static constexpr int size = power_of_3(R);

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t channels) const {
    const TensorFormArguments& a = in.a;
    const Rows<S> edge = edges_by<S>(a.graph, role, first), t_row = in.rows_of_t(edge);
    const Ends<S> x = in.template ends<S>(edge);
    const FrameParts<S> parts = frame_parts(a.mode, x);
    const FrameLanes<S> frames(parts.frame);
    const Lanes<S> weight(in.template weight<S>(edge));
    if constexpr (WithPos) {
      const Mat3<S> grad_frame = both_gradients(frames, weight, edge, t_row, channels);
      const Ends<S> grad = edge_frame_vjp(parts, x, grad_frame);
      for_nodes_of<S>(a.graph, role, edge, [&](const Rows<S>& node, bool receiver) {
        accumulate3(static_cast<T*>(a.grad_pos), node, receiver ? grad.i : grad.j);
      });
    } else if (in.sums_t(role)) {
      add_tensors(frames, weight, edge, t_row, channels);
    }
  }

  // Edges of one node follow one another: its sum stays in registers until the next node's begins.
  template <class S> CLOF_HD void add_tensors(const FrameLanes<S>& frames, const Lanes<S>& weight, const Rows<S>& edge,
                                              const Rows<S>& node, int64_t channels) const {
    for_channels<T>(channels, [&](auto register_of, int64_t channel) CLOF_INLINE_LAMBDA {
      using P = decltype(register_of);
      const U* s = static_cast<const U*>(in.a.s) + channel * size;
      T* grad_t = static_cast<T*>(in.a.grad_t) + channel * size;
      T* row = grad_t + node.at[0] * channels * size;
      Tensor<P, R> sum = ChannelRow<P, R>::load(row);
      for (int lane = 0; lane < lanes_of<S>; ++lane) {
        T* next = grad_t + node.at[lane] * channels * size;
        if (next != row) {
          ChannelRow<P, R>::store(row, sum);
          row = next;
          sum = ChannelRow<P, R>::load(row);
        }
        Tensor<P, R> part =
            tensorize(frames.template of<P>(lane), ChannelRow<P, R>::load(s + edge.at[lane] * channels * size));
        if (in.a.mean) scale(part, weight.at[lane]);
        for (int c = 0; c < size; ++c) sum.at[c] = sum.at[c] + part.at[c];
      }
      ChannelRow<P, R>::store(row, sum);
    });
  }

  // The gradients by the frames; those by T, if wanted, are added to their rows, while s is in registers.
  template <class S> CLOF_HD Mat3<S> both_gradients(const FrameLanes<S>& frames, const Lanes<S>& weight,
                                                    const Rows<S>& edge, const Rows<S>& t_row, int64_t channels) const {
    const bool sums_t = in.sums_t(role);
    // Of each edge, still to be summed over lanes, and of the channels that fill no register.
    Register<T> total[9][lanes_of<S>];
    T rest[9][lanes_of<S>] = {};
    for (int lane = 0; lane < lanes_of<S>; ++lane) {
      const U* s = static_cast<const U*>(in.a.s) + edge.at[lane] * channels * size;
      const int64_t row = t_row.at[lane] * channels * size;
      const U* t = static_cast<const U*>(in.a.t) + row;
      T* grad_t = sums_t ? static_cast<T*>(in.a.grad_t) + row : nullptr;
      for_channels<T>(channels, [&](auto register_of, int64_t channel) CLOF_INLINE_LAMBDA {
        using P = decltype(register_of);
        const Mat3<P> frame = frames.template of<P>(lane);
        const Tensor<P, R> own = ChannelRow<P, R>::load(s + channel * size);
        Tensor<P, R> tensor = ChannelRow<P, R>::load(t + channel * size);
        if (in.a.mean) scale(tensor, weight.at[lane]);
        const Mat3<P> grad = form_frame_vjp(frame, own, tensor);
        if constexpr (std::is_same_v<P, T>) add_numbers(rest, lane, grad);
        else if (channel > 0) add_numbers(total, lane, grad);
        else set_numbers(total, lane, grad);
        if (sums_t) {
          Tensor<P, R> part = tensorize(frame, own);
          if (in.a.mean) scale(part, weight.at[lane]);
          ChannelRow<P, R>::add(grad_t + channel * size, part);
        }
      });
    }
    const auto number = [&](int i) { return sums_of_lanes(total[i]) + load<S>(rest[i], consecutive<S>(0), 1, 0); };
    return {{number(0), number(1), number(2)}, {number(3), number(4), number(5)}, {number(6), number(7), number(8)}};
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
