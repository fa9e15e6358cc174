// Invariant scalars of an edge: sin, cos, F x_i, F x_j and, with velocities, F v_i, F v_j.
#pragma once

#include "edge_frame.h"

namespace clof {
inline namespace CLOF_ISA {

// 1 - cos^2 is clamped here, with gradient 0 below: the derivative of sin is unbounded as |cos| -> 1.
constexpr double kMinSinSquared = 1e-10;
// Added to the norms in the cosine by the published program.
constexpr double kCosNormShift = 1e-5;

template <class S> struct EdgeScalars {
  S sin, cos;
  Ends<S> x, v;  // projections on the frame
};

template <class S> struct Angle {
  S norm_p, norm_q, cos, sin;
};

template <class S> CLOF_HD S safe_norm(Vec3<S> v) {
  using T = underlying_t<S>;
  const S squared = dot(v, v);
  const auto defined = positive(squared);
  return select(defined, square_root(select(defined, squared, S(T(1)))), S(T(0)));
}

template <class S> CLOF_HD Angle<S> angle(Vec3<S> p, Vec3<S> q) {
  using T = underlying_t<S>;
  const S shift{T(kCosNormShift)}, floor{T(kMinSinSquared)}, one{T(1)};
  Angle<S> out;
  out.norm_p = safe_norm(p);
  out.norm_q = safe_norm(q);
  out.cos = dot(p, q) / ((out.norm_p + shift) * (out.norm_q + shift));
  const S squared = one - out.cos * out.cos;
  // What is no number stays so.
  out.sin = square_root(select(floor > squared, floor, squared));
  return out;
}

template <class S> CLOF_HD EdgeScalars<S> edge_scalars(FrameMode mode, Ends<S> x, Ends<S> v) {
  const Mat3<S> frame = edge_frame(mode, x);
  const Ends<S> projected{frame * x.i, frame * x.j};
  const Angle<S> theta = angle(projected.i, projected.j);
  return {theta.sin, theta.cos, projected, {frame * v.i, frame * v.j}};
}

// Gradient by p and q, given those by sin and cos.
template <class S> CLOF_HD Ends<S> angle_vjp(Vec3<S> p, Vec3<S> q, S grad_sin, S grad_cos) {
  using T = underlying_t<S>;
  const S shift{T(kCosNormShift)}, floor{T(kMinSinSquared)}, zero{T(0)}, one{T(1)};
  const Angle<S> theta = angle(p, q);
  const auto above = one - theta.cos * theta.cos > floor;
  const S grad = grad_cos - select(above, grad_sin * theta.cos / theta.sin, zero);
  const S shifted_p = theta.norm_p + shift, shifted_q = theta.norm_q + shift;
  const S common = grad / (shifted_p * shifted_q);
  // d|p|/dp = p / |p|, 0 where p = 0.
  const auto p_defined = positive(theta.norm_p), q_defined = positive(theta.norm_q);
  const S along = grad * theta.cos;
  const S along_p = select(p_defined, along / (shifted_p * select(p_defined, theta.norm_p, one)), zero);
  const S along_q = select(q_defined, along / (shifted_q * select(q_defined, theta.norm_q, one)), zero);
  return {common * q - along_p * p, common * p - along_q * q};
}

template <class S> struct EdgeScalarsGradient {
  Ends<S> x, v;
};

template <class S>
CLOF_HD EdgeScalarsGradient<S> edge_scalars_vjp(FrameMode mode, Ends<S> x, Ends<S> v, const EdgeScalars<S>& g) {
  const FrameParts<S> parts = frame_parts(mode, x);
  const Mat3<S>& frame = parts.frame;
  const Ends<S> grad_p = g.x + angle_vjp(frame * x.i, frame * x.j, g.sin, g.cos);
  const Mat3<S> grad_frame = outer(grad_p.i, x.i) + outer(grad_p.j, x.j) + outer(g.v.i, v.i) + outer(g.v.j, v.j);
  const Ends<S> direct{transposed(frame, grad_p.i), transposed(frame, grad_p.j)};
  return {direct + edge_frame_vjp(parts, x, grad_frame), {transposed(frame, g.v.i), transposed(frame, g.v.j)}};
}

}  // namespace CLOF_ISA
}  // namespace clof
