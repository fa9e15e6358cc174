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
      store_rows(base, first,
                 Numbers<S, kScalarsWithoutVelocity>{result(out.sin), result(out.cos), p.x, p.y, p.z, q.x, q.y, q.z});
    } else {
      store_rows(base, first,
                 Numbers<S, kScalarsWithVelocity>{result(out.sin), result(out.cos), p.x, p.y, p.z, q.x, q.y, q.z, u.x,
                                                  u.y, u.z, w.x, w.y, w.z});
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
    const V zero(underlying_t<V>(0));
    EdgeScalars<V> g;
    g.v = {{zero, zero, zero}, {zero, zero, zero}};
    if (a.vel == nullptr) {
      set_scalars(
          g, load_numbers<V, kScalarsWithoutVelocity, S, T>(a.grad_scalars, nullptr, edge, kScalarsWithoutVelocity, 0));
    } else {
      const auto x =
          load_numbers<V, kScalarsWithVelocity, S, T>(a.grad_scalars, nullptr, edge, kScalarsWithVelocity, 0);
      set_scalars(g, x);
      g.v = {vec3_at(x, 8), vec3_at(x, 11)};
    }
    return g;
  }

  template <class V, int C> static CLOF_HD void set_scalars(EdgeScalars<V>& g, const Numbers<V, C>& x) {
    g.sin = x.at[0];
    g.cos = x.at[1];
    g.x = {vec3_at(x, 2), vec3_at(x, 5)};
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
