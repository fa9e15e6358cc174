// What the functors over edges share: the two ends of an edge, values with and without a tangent.
#pragma once

#include <type_traits>

#include "arguments.h"
#include "lanes.h"

namespace clof {
inline namespace CLOF_ISA {

// The scalar that a functor computes with: dual numbers for second derivatives.
template <class S, bool Second> using Number = std::conditional_t<Second, Dual<S>, S>;

// What a functor writes: the value, or of a dual number the derivative.
template <class S> CLOF_HD S result(S x) { return x; }
template <class S> CLOF_HD S result(Dual<S> x) { return x.tangent; }
template <class V> CLOF_HD auto result(Vec3<V> v) -> Vec3<decltype(result(v.x))> {
  return {result(v.x), result(v.y), result(v.z)};
}

// A number that does not depend on the inputs.
template <class V, class S> CLOF_HD V constant(S x) {
  if constexpr (std::is_same_v<V, S>) return x;
  else return V(x, S(underlying_t<S>(0)));
}

// C numbers of each row with their tangents, where V has them.
template <class V, int C, class S, class U> CLOF_HD Numbers<V, C> load_numbers(const void* value, const void* tangent,
                                                                               const Rows<S>& rows, int64_t stride,
                                                                               int64_t column) {
  const Numbers<S, C> x = load<S, C>(static_cast<const U*>(value), rows, stride, column);
  if constexpr (std::is_same_v<V, S>) {
    return x;
  } else {
    Numbers<V, C> out;
    for (int c = 0; c < C; ++c) out.at[c] = constant<V>(x.at[c]);
    if (tangent == nullptr) return out;
    const Numbers<S, C> dx = load<S, C>(static_cast<const U*>(tangent), rows, stride, column);
    for (int c = 0; c < C; ++c) out.at[c].tangent = dx.at[c];
    return out;
  }
}

template <class V, int C> CLOF_HD Vec3<V> vec3_at(const Numbers<V, C>& x, int column) {
  return {x.at[column], x.at[column + 1], x.at[column + 2]};
}

template <class V, class S, class U>
CLOF_HD Vec3<V> load_vec3(const void* value, const void* tangent, const Rows<S>& rows) {
  return vec3_at(load_numbers<V, 3, S, U>(value, tangent, rows, 3, 0), 0);
}

// A matrix of each row; cotangents have no tangent of their own.
template <class V, class S, class U> CLOF_HD Mat3<V> load_mat3(const void* value, const Rows<S>& rows) {
  const Numbers<V, 9> x = load_numbers<V, 9, S, U>(value, nullptr, rows, 9, 0);
  return {vec3_at(x, 0), vec3_at(x, 3), vec3_at(x, 6)};
}

// Vectors of an edge's two nodes.
template <class V, class S, class U>
CLOF_HD Ends<V> load_ends(const Graph& graph, const Rows<S>& edge, const void* value, const void* tangent) {
  return {load_vec3<V, S, U>(value, tangent, lookup(graph.receiver, edge)),
          load_vec3<V, S, U>(value, tangent, lookup(graph.sender, edge))};
}

// What an edge adds to C numbers of its receiver and of its sender.
template <class S, int C> struct EndNumbers {
  Numbers<S, C> i, j;

  CLOF_HD Numbers<S, C> of(bool receiver) const {
    if (receiver) return i;
    return j;
  }
};

// Sums over edges are made in their order by receiver, in their order by sender, or for both nodes of an edge at once
// (role Place::edge): then in the order by receiver, by one worker for whole graphs.

// Edge numbers at the positions first, first + 1, ... of the order of a role.
template <class S> CLOF_HD Rows<S> edges_by(const Graph& graph, Place role, int64_t first) {
  return lookup(role == Place::sender ? graph.by_sender : graph.by_receiver, consecutive<S>(first));
}

template <class S> CLOF_HD Rows<S> node_of(const Graph& graph, Place place, const Rows<S>& edge) {
  return lookup(place == Place::sender ? graph.sender : graph.receiver, edge);
}

// Calls add(node, receiver) for the nodes that an edge's parts are added to.
template <class S, class Add>
CLOF_HD void for_nodes_of(const Graph& graph, Place role, const Rows<S>& edge, const Add& add) {
  if (role != Place::sender) add(node_of<S>(graph, Place::receiver, edge), true);
  if (role != Place::receiver) add(node_of<S>(graph, Place::sender, edge), false);
}

// Writes to the rows first, first + 1, ... of a dense (rows, C) array.
template <class S, int C, class U> CLOF_HD void store_rows(U* base, int64_t first, const Numbers<S, C>& x) {
  Memory<S>::store_rows(base + first * C, x);
}

}  // namespace CLOF_ISA
}  // namespace clof
