// Complete local frame of an edge: rows a, b, c from d = x_i - x_j and w = x_i x x_j.
#pragma once

#include "vec3.h"

namespace clof {

enum class FrameMode : int { soft, raw, orthonormal };

inline namespace CLOF_ISA {

// Two positions count as parallel, w = d x x_i as 0, where |w| is below this many roundings of |d| |x_i|: the direction
// of w is noise there, and so would second derivatives be.
constexpr double kParallelRoundings = 8;

// An axis is its vector times `factor`. `inverse` is that of the axis' own length, or 0 where the factor is a constant:
// with it the factor's derivative needs no power of the vector's norm, which for w is a square of lengths.
template <class S> struct AxisScale {
  S factor, inverse;
};

template <class S> CLOF_HD AxisScale<S> axis_scale(FrameMode mode, Vec3<S> vector, S threshold_squared) {
  using T = underlying_t<S>;
  const S zero(T(0)), one(T(1));
  if (mode == FrameMode::raw) return {one, zero};
  const S squared = dot(vector, vector);
  const auto defined = squared > threshold_squared;
  const S norm = square_root(select(defined, squared, one));
  const S inverse = one / norm;
  if (mode == FrameMode::soft) {
    return {one / (select(defined, norm, zero) + one), select(defined, one + inverse, zero)};
  }
  return {select(defined, inverse, zero), select(defined, one, zero)};
}

// Everything about a frame that its value and its derivative share.
template <class S> struct FrameParts {
  Vec3<S> d;
  AxisScale<S> scale_a, scale_b;
  Mat3<S> frame;
};

template <class S> CLOF_HD FrameParts<S> frame_parts(FrameMode mode, Ends<S> x) {
  using T = underlying_t<S>;
  FrameParts<S> parts;
  parts.d = x.i - x.j;
  // x_i x x_j, written so that it is exactly 0 for coincident points.
  const Vec3<S> w = cross(parts.d, x.i);
  const S zero(T(0));
  const T rounding = T(kParallelRoundings) * Precision<T>::epsilon;
  const S threshold = S(T(rounding * rounding)) * dot(parts.d, parts.d) * dot(x.i, x.i);
  parts.scale_a = axis_scale(mode, parts.d, zero);
  parts.scale_b = axis_scale(mode, w, threshold);
  const Vec3<S> a = parts.scale_a.factor * parts.d, b = parts.scale_b.factor * w;
  parts.frame = {a, b, cross(a, b)};
  return parts;
}

template <class S> CLOF_HD Mat3<S> edge_frame(FrameMode mode, Ends<S> x) { return frame_parts(mode, x).frame; }

// Gradient by the vector of an axis.
template <class S> CLOF_HD Vec3<S> axis_vjp(AxisScale<S> scale, Vec3<S> axis, Vec3<S> g) {
  return scale.factor * (g - (scale.inverse * dot(g, axis)) * axis);
}

// Gradient by the positions of the two ends, given the gradient g by the frame.
template <class S> CLOF_HD Ends<S> edge_frame_vjp(FrameParts<S> parts, Ends<S> x, Mat3<S> g) {
  const Mat3<S>& f = parts.frame;
  const Vec3<S> grad_d = axis_vjp(parts.scale_a, f.a, g.a + cross(f.b, g.c));
  const Vec3<S> grad_w = axis_vjp(parts.scale_b, f.b, g.b + cross(g.c, f.a));
  const Vec3<S> total_d = grad_d + cross(x.i, grad_w);
  return {total_d + cross(grad_w, parts.d), -total_d};
}

}  // namespace CLOF_ISA
}  // namespace clof
