// Kernel bodies of edge_frame. Second = true computes derivatives of the backward pass by dual numbers.
#pragma once

#include "edge.h"

namespace clof {
inline namespace CLOF_ISA {

// For each edge: its frame, or the derivative of its frame in the direction of the tangents.
template <class T, bool Second> struct EdgeFrameMap {
  EdgeFrameArguments a;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t) const {
    using V = Number<S, Second>;
    const Rows<S> edge = consecutive<S>(first);
    const Ends<V> x = load_ends<V, S, T>(a.graph, edge, a.pos, a.pos_tangent);
    const Mat3<V> frame = edge_frame(a.mode, x);
    const Mat3<S> out{result(frame.a), result(frame.b), result(frame.c)};
    store_rows(static_cast<T*>(a.frame), first, numbers(out));
  }
};

// For each edge of a node, in the order of the plan: its part of the node's gradient.
template <class T, bool Second> struct EdgeFrameSum {
  EdgeFrameArguments a;
  Place role;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t) const {
    using V = Number<S, Second>;
    const Rows<S> edge = edges_by<S>(a.graph, role, first);
    const Ends<V> x = load_ends<V, S, T>(a.graph, edge, a.pos, a.pos_tangent);
    const Mat3<V> grad = load_mat3<V, S, T>(a.grad_frame, edge);
    const Ends<V> end = edge_frame_vjp(frame_parts(a.mode, x), x, grad);
    accumulate3(static_cast<T*>(a.grad_pos), node_of<S>(a.graph, role, edge),
                result(role == Place::receiver ? end.i : end.j));
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
