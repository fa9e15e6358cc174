// Kernel bodies of edge_frame. Second = true computes derivatives of the backward pass by dual numbers.
#pragma once

#include "edge.h"

namespace clof {
inline namespace CLOF_ISA {

// For each edge: its frame, or the derivative of its frame in the direction of the tangents.
template <class T, bool Second> struct EdgeFrameMap {
  static constexpr int width = 9;

  EdgeFrameArguments a;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t) const {
    store_rows(static_cast<T*>(a.frame), first, row(consecutive<S>(first)));
  }

  template <class S> CLOF_HD Numbers<S, width> row(const Rows<S>& edge) const {
    using V = Number<S, Second>;
    const Mat3<V> frame = edge_frame(a.mode, load_ends<V, S, T>(a.graph, edge, a.pos, a.pos_tangent));
    return numbers(Mat3<S>{result(frame.a), result(frame.b), result(frame.c)});
  }
};

// For each edge of a node, in the order of the plan: its part of the node's gradient.
template <class T, bool Second> struct EdgeFrameSum {
  static constexpr int width = 9, node_width = 3;
  static constexpr bool second = Second;

  EdgeFrameArguments a;
  Place role;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t) const {
    const Rows<S> edge = edges_by<S>(a.graph, role, first);
    const EndNumbers<S, node_width> of_ends = parts(inputs(edge), gradient(), edge);
    for_nodes_of<S>(a.graph, role, edge, [&](const Rows<S>& node, bool receiver) {
      accumulate(static_cast<T*>(a.grad_pos), node, 3, 0, of_ends.of(receiver));
    });
  }

  // The gradient by the frames, a row an edge.
  CLOF_HD const T* gradient() const { return static_cast<const T*>(a.grad_frame); }
  // What is read of nodes, three numbers each.
  static constexpr int node_inputs = 1;
  CLOF_HD const T* node_input(int) const { return static_cast<const T*>(a.pos); }

  template <class S> CLOF_HD Ends<Number<S, Second>> inputs(const Rows<S>& edge) const {
    return load_ends<Number<S, Second>, S, T>(a.graph, edge, a.pos, a.pos_tangent);
  }

  // Parts of both nodes' gradients; the gradient by the edge's frame is the row `row` of `rows`.
  template <class V, class S>
  CLOF_HD EndNumbers<S, node_width> parts(const Ends<V>& x, const T* rows, const Rows<S>& row) const {
    const Ends<V> end = edge_frame_vjp(frame_parts(a.mode, x), x, load_mat3<V, S, T>(rows, row));
    return {numbers(result(end.i)), numbers(result(end.j))};
  }

  // Where a column of a node's sum belongs.
  CLOF_HD T& sum(int64_t node, int column) const { return static_cast<T*>(a.grad_pos)[node * 3 + column]; }
};

}  // namespace CLOF_ISA
}  // namespace clof
