// Kernel bodies of edge_scalars. Second = true computes derivatives of the backward pass by dual numbers.
#pragma once

#include "../math/edge_scalars.h"
#include "edge.h"

namespace clof {
inline namespace CLOF_ISA {

constexpr int kScalarsWithoutVelocity = 8;
constexpr int kScalarsWithVelocity = 14;

template <class V, class S, class T>
CLOF_HD Ends<V> load_velocities(const EdgeScalarsArguments& a, const Rows<S>& edge) {
  if (a.vel != nullptr) return load_ends<V, S, T>(a.graph, edge, a.vel, a.vel_tangent);
  const V zero(underlying_t<V>(0));
  return {{zero, zero, zero}, {zero, zero, zero}};
}

template <class T, bool Second> struct EdgeScalarsMap {
  EdgeScalarsArguments a;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t) const {
    using V = Number<S, Second>;
    const Rows<S> edge = consecutive<S>(first);
    const Ends<V> x = load_ends<V, S, T>(a.graph, edge, a.pos, a.pos_tangent);
    const EdgeScalars<V> out = edge_scalars(a.mode, x, load_velocities<V, S, T>(a, edge));
    T* base = static_cast<T*>(a.scalars);
    const Vec3<S> p = result(out.x.i), q = result(out.x.j), u = result(out.v.i), w = result(out.v.j);
    if (a.vel == nullptr) {
      const S values[kScalarsWithoutVelocity] = {result(out.sin), result(out.cos), p.x, p.y, p.z, q.x, q.y, q.z};
      store_row(base, first, values);
    } else {
      const S values[kScalarsWithVelocity] = {
          result(out.sin), result(out.cos), p.x, p.y, p.z, q.x, q.y, q.z, u.x, u.y, u.z, w.x, w.y, w.z};
      store_row(base, first, values);
    }
  }
};

template <class T, bool Second> struct EdgeScalarsSum {
  EdgeScalarsArguments a;
  Place role;

  template <class S> CLOF_HD void operator()(int64_t first, int64_t, int64_t) const {
    using V = Number<S, Second>;
    const Rows<S> edge = edges_by<S>(a.graph, role, first);
    const Ends<V> x = load_ends<V, S, T>(a.graph, edge, a.pos, a.pos_tangent);
    const EdgeScalarsGradient<V> grad =
        edge_scalars_vjp(a.mode, x, load_velocities<V, S, T>(a, edge), load_gradient<V>(edge));
    const Rows<S> node = node_of<S>(a.graph, role, edge);
    const bool receiver = role == Place::receiver;
    accumulate3(static_cast<T*>(a.grad_pos), node, result(receiver ? grad.x.i : grad.x.j));
    if (a.vel != nullptr) {
      accumulate3(static_cast<T*>(a.grad_vel), node, result(receiver ? grad.v.i : grad.v.j));
    }
  }

  template <class V, class S> CLOF_HD EdgeScalars<V> load_gradient(const Rows<S>& edge) const {
    const int64_t width = a.vel == nullptr ? kScalarsWithoutVelocity : kScalarsWithVelocity;
    const V zero(underlying_t<V>(0));
    EdgeScalars<V> g;
    g.sin = load_value<V, S, T>(a.grad_scalars, nullptr, edge, width, 0);
    g.cos = load_value<V, S, T>(a.grad_scalars, nullptr, edge, width, 1);
    g.x = {load_vec3<V, S, T>(a.grad_scalars, nullptr, edge, width, 2),
           load_vec3<V, S, T>(a.grad_scalars, nullptr, edge, width, 5)};
    g.v = {{zero, zero, zero}, {zero, zero, zero}};
    if (a.vel != nullptr) {
      g.v = {load_vec3<V, S, T>(a.grad_scalars, nullptr, edge, width, 8),
             load_vec3<V, S, T>(a.grad_scalars, nullptr, edge, width, 11)};
    }
    return g;
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
