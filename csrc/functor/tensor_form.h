// Kernel bodies of project and aggregate: the gradients of the form B(s, T, F(x)) by what lives on edges and by what
// lives on nodes. Second = true computes derivatives of the backward pass by dual numbers.
#pragma once

#include "../math/tensor_form.h"
#include "edge.h"

namespace clof {
inline namespace CLOF_ISA {

// T computes, U is the storage type of s and T.
template <class T, class U, int R, bool Second> struct TensorFormLoads {
  TensorFormArguments a;

  static constexpr int size = power_of_3(R);

  // What an edge is computed with.
  template <class S> using V = Number<S, Second>;

  template <class S> CLOF_HD Ends<V<S>> ends(const Rows<S>& edge) const {
    return load_ends<V<S>, S, T>(a.graph, edge, a.pos, a.pos_tangent);
  }

  template <class S>
  CLOF_HD Tensor<V<S>, R> tensor(const void* value, const void* tangent, const Rows<S>& rows, int64_t channel) const {
    const auto x = load_numbers<V<S>, size, S, U>(value, tangent, rows, a.channels * size, channel * size);
    Tensor<V<S>, R> out;
    for (int c = 0; c < size; ++c) out.at[c] = x.at[c];
    return out;
  }

  template <class S> CLOF_HD Rows<S> rows_of_t(const Rows<S>& edge) const {
    return a.place == Place::edge ? edge : node_of<S>(a.graph, a.place, edge);
  }

  // Whether the sums of a role include the gradient by T.
  CLOF_HD bool sums_t(Place role) const {
    return a.grad_t != nullptr && a.place != Place::edge && (role == Place::edge || role == a.place);
  }

  // 1 / max(degree of the receiver, 1) where T is a mean, else 1.
  template <class S> CLOF_HD S weight(const Rows<S>& edge) const {
    if (!a.mean) return S(T(1));
    const Rows<S> node = lookup(a.graph.receiver, edge);
    const S degree = load<S>(a.graph.receiver_start, node, 1, 1) - load<S>(a.graph.receiver_start, node, 1, 0);
    return S(T(1)) / degree;  // an edge's receiver has at least that edge
  }

  template <class S> CLOF_HD Tensor<V<S>, R> weighted_t(const Rows<S>& edge, int64_t channel) const {
    Tensor<V<S>, R> out = tensor(a.t, a.t_tangent, rows_of_t(edge), channel);
    if (a.mean) {
      const V<S> scale = constant<V<S>>(weight(edge));
      for (int c = 0; c < size; ++c) out.at[c] = out.at[c] * scale;
    }
    return out;
  }
};

// For each edge: the gradient by s and, where T lives on edges, by T.
template <class T, class U, int R, bool Second> struct TensorFormMap {
  TensorFormLoads<T, U, R, Second> in;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t channel, int64_t end) const {
    using V = Number<S, Second>;
    const TensorFormArguments& a = in.a;
    const Rows<S> edge = consecutive<S>(first);
    const Mat3<V> frame = edge_frame(a.mode, in.template ends<S>(edge));
    for (; channel < end; ++channel) {
      if (a.grad_s != nullptr) write(a.grad_s, edge, channel, project(frame, in.template weighted_t<S>(edge, channel)));
      if (a.place == Place::edge && a.grad_t != nullptr) {
        write(a.grad_t, edge, channel, tensorize(frame, in.tensor(a.s, a.s_tangent, edge, channel)));
      }
    }
  }

  template <class S, class V>
  CLOF_HD void write(void* base, const Rows<S>& edge, int64_t channel, const Tensor<V, R>& value) const {
    constexpr int size = power_of_3(R);
    Numbers<S, size> x;
    for (int c = 0; c < size; ++c) x.at[c] = result(value.at[c]);
    store(static_cast<U*>(base), edge, in.a.channels * size, channel * size, x);
  }
};

// For each edge of a node, in the order of the plan: its part of the gradients by T and by the position.
template <class T, class U, int R, bool Second> struct TensorFormSum {
  TensorFormLoads<T, U, R, Second> in;
  Place role;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t channel, int64_t end) const {
    using V = Number<S, Second>;
    const TensorFormArguments& a = in.a;
    const Rows<S> edge = edges_by<S>(a.graph, role, first);
    const Ends<V> x = in.template ends<S>(edge);
    const FrameParts<V> parts = frame_parts(a.mode, x);
    const V zero(T(0));
    Mat3<V> grad_frame{{zero, zero, zero}, {zero, zero, zero}, {zero, zero, zero}};
    for (; channel < end; ++channel) {
      const Tensor<V, R> s = in.tensor(a.s, a.s_tangent, edge, channel);
      if (in.sums_t(role)) add_tensor(in.rows_of_t(edge), channel, tensorize(parts.frame, s), edge);
      if (a.grad_pos != nullptr) {
        grad_frame = grad_frame + form_frame_vjp(parts.frame, s, in.template weighted_t<S>(edge, channel));
      }
    }
    if (a.grad_pos != nullptr) {
      const Ends<V> grad = edge_frame_vjp(parts, x, grad_frame);
      for_nodes_of<S>(a.graph, role, edge, [&](const Rows<S>& node, bool receiver) {
        accumulate3(static_cast<T*>(a.grad_pos), node, result(receiver ? grad.i : grad.j));
      });
    }
  }

  template <class S, class V>
  CLOF_HD void add_tensor(const Rows<S>& node, int64_t channel, const Tensor<V, R>& value, const Rows<S>& edge) const {
    constexpr int size = power_of_3(R);
    const S scale = in.weight(edge);
    Numbers<S, size> x;
    for (int c = 0; c < size; ++c) x.at[c] = scale * result(value.at[c]);
    accumulate(static_cast<T*>(in.a.grad_t), node, in.a.channels * size, channel * size, x);
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
