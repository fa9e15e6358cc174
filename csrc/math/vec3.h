// Small value types: vectors, 3 x 3 matrices by rows, and pairs of gradients of an edge's two ends.
#pragma once

#include "portable.h"

namespace clof {
inline namespace CLOF_ISA {

template <class S> struct Vec3 {
  S x, y, z;
};

template <class S> CLOF_HD Vec3<S> operator+(Vec3<S> u, Vec3<S> v) { return {u.x + v.x, u.y + v.y, u.z + v.z}; }
template <class S> CLOF_HD Vec3<S> operator-(Vec3<S> u, Vec3<S> v) { return {u.x - v.x, u.y - v.y, u.z - v.z}; }
template <class S> CLOF_HD Vec3<S> operator-(Vec3<S> v) { return {-v.x, -v.y, -v.z}; }
template <class S> CLOF_HD Vec3<S> operator*(S s, Vec3<S> v) { return {s * v.x, s * v.y, s * v.z}; }
template <class S> CLOF_HD S dot(Vec3<S> u, Vec3<S> v) { return u.x * v.x + u.y * v.y + u.z * v.z; }
template <class S> CLOF_HD Vec3<S> cross(Vec3<S> u, Vec3<S> v) {
  return {u.y * v.z - u.z * v.y, u.z * v.x - u.x * v.z, u.x * v.y - u.y * v.x};
}

// Rows a, b, c.
template <class S> struct Mat3 {
  Vec3<S> a, b, c;
};

template <class S> CLOF_HD Mat3<S> operator+(Mat3<S> m, Mat3<S> n) { return {m.a + n.a, m.b + n.b, m.c + n.c}; }
template <class S> CLOF_HD Vec3<S> operator*(Mat3<S> m, Vec3<S> v) { return {dot(m.a, v), dot(m.b, v), dot(m.c, v)}; }
// Transpose of m times v.
template <class S> CLOF_HD Vec3<S> transposed(Mat3<S> m, Vec3<S> v) { return v.x * m.a + v.y * m.b + v.z * m.c; }
// u v^T: row k is u_k v.
template <class S> CLOF_HD Mat3<S> outer(Vec3<S> u, Vec3<S> v) { return {u.x * v, u.y * v, u.z * v}; }

// What belongs to the receiver i and the sender j of an edge.
template <class S> struct Ends {
  Vec3<S> i, j;
};

template <class S> CLOF_HD Ends<S> operator+(Ends<S> u, Ends<S> v) { return {u.i + v.i, u.j + v.j}; }

}  // namespace CLOF_ISA
}  // namespace clof
