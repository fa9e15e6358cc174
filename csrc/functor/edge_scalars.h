// Kernel bodies of edge_scalars. Second = true computes derivatives of the backward pass by dual numbers.
#pragma once

#include "../math/edge_scalars.h"
#include "edge.h"

namespace clof {
inline namespace CLOF_ISA {

constexpr int kScalarsWithoutVelocity = 8;
constexpr int kScalarsWithVelocity = 14;

constexpr int scalars_width(bool with_velocity) {
  return with_velocity ? kScalarsWithVelocity : kScalarsWithoutVelocity;
}

// Velocities of an edge's nodes, 0 where there are none.
template <bool WithVelocity, class V, class S, class T>
CLOF_HD Ends<V> load_velocities(const EdgeScalarsArguments& a, const Rows<S>& edge) {
  if constexpr (WithVelocity) return load_ends<V, S, T>(a.graph, edge, a.vel, a.vel_tangent);
  const V zero(underlying_t<V>(0));
  return {{zero, zero, zero}, {zero, zero, zero}};
}

template <class T, bool Second, bool WithVelocity> struct EdgeScalarsMap {
  static constexpr int width = scalars_width(WithVelocity);

  EdgeScalarsArguments a;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t) const {
    store_rows(static_cast<T*>(a.scalars), first, row(consecutive<S>(first)));
  }

  template <class S> CLOF_HD Numbers<S, width> row(const Rows<S>& edge) const {
    using V = Number<S, Second>;
    const Ends<V> x = load_ends<V, S, T>(a.graph, edge, a.pos, a.pos_tangent);
    const EdgeScalars<V> out = edge_scalars(a.mode, x, load_velocities<WithVelocity, V, S, T>(a, edge));
    const S sin = result(out.sin), cos = result(out.cos);
    const Vec3<S> p = result(out.x.i), q = result(out.x.j), u = result(out.v.i), w = result(out.v.j);
    if constexpr (WithVelocity) {
      return {sin, cos, p.x, p.y, p.z, q.x, q.y, q.z, u.x, u.y, u.z, w.x, w.y, w.z};
    } else {
      return {sin, cos, p.x, p.y, p.z, q.x, q.y, q.z};
    }
  }
};

template <class T, bool Second, bool WithVelocity> struct EdgeScalarsSum {
  static constexpr int width = scalars_width(WithVelocity), node_width = WithVelocity ? 6 : 3;
  static constexpr bool second = Second;

  EdgeScalarsArguments a;
  Place role;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t) const {
    const Rows<S> edge = edges_by<S>(a.graph, role, first);
    const EndNumbers<S, node_width> of_ends = parts(inputs(edge), gradient(), edge);
    for_nodes_of<S>(a.graph, role, edge, [&](const Rows<S>& node, bool receiver) {
      const Numbers<S, node_width> part = of_ends.of(receiver);
      accumulate3(static_cast<T*>(a.grad_pos), node, vec3_at(part, 0));
      if constexpr (WithVelocity) accumulate3(static_cast<T*>(a.grad_vel), node, vec3_at(part, 3));
    });
  }

  // The gradient by the scalars, a row an edge.
  CLOF_HD const T* gradient() const { return static_cast<const T*>(a.grad_scalars); }
  // What is read of nodes, three numbers each.
  static constexpr int node_inputs = WithVelocity ? 2 : 1;
  CLOF_HD const T* node_input(int k) const { return static_cast<const T*>(k == 0 ? a.pos : a.vel); }

  template <class V> struct Inputs {
    Ends<V> x, v;
  };
  template <class S> CLOF_HD Inputs<Number<S, Second>> inputs(const Rows<S>& edge) const {
    using V = Number<S, Second>;
    return {load_ends<V, S, T>(a.graph, edge, a.pos, a.pos_tangent), load_velocities<WithVelocity, V, S, T>(a, edge)};
  }

  // Parts of both nodes' gradients; the gradient by the edge's scalars is the row `row` of `rows`.
  template <class V, class S>
  CLOF_HD EndNumbers<S, node_width> parts(const Inputs<V>& in, const T* rows, const Rows<S>& row) const {
    const EdgeScalarsGradient<V> grad = edge_scalars_vjp(a.mode, in.x, in.v, load_scalars<V, S>(rows, row));
    return {of_node<S>(grad.x.i, grad.v.i), of_node<S>(grad.x.j, grad.v.j)};
  }

  // Where a column of a node's sums belongs.
  CLOF_HD T& sum(int64_t node, int column) const {
    T* base = static_cast<T*>(column < 3 ? a.grad_pos : a.grad_vel);
    return base[node * 3 + column % 3];
  }

  template <class V, class S> static CLOF_HD EdgeScalars<V> load_scalars(const T* rows, const Rows<S>& row) {
    const V zero(underlying_t<V>(0));
    const Numbers<V, width> x = load_numbers<V, width, S, T>(rows, nullptr, row, width, 0);
    EdgeScalars<V> g{x.at[0], x.at[1], {vec3_at(x, 2), vec3_at(x, 5)}, {{zero, zero, zero}, {zero, zero, zero}}};
    if constexpr (WithVelocity) g.v = {vec3_at(x, 8), vec3_at(x, 11)};
    return g;
  }

  template <class S, class V> static CLOF_HD Numbers<S, node_width> of_node(Vec3<V> x, Vec3<V> v) {
    if constexpr (WithVelocity) {
      return {result(x.x), result(x.y), result(x.z), result(v.x), result(v.y), result(v.z)};
    } else {
      return {result(x.x), result(x.y), result(x.z)};
    }
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
