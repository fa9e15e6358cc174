// The form B(s, T, F) = sum over k, i of s[k1..kr] F[k1,i1] ... F[kr,ir] T[i1..ir] of tensors of order r, and its three
// gradients. project is the gradient by s, aggregate that by T; their derivatives are the others.
#pragma once

#include "vec3.h"

namespace clof {
inline namespace CLOF_ISA {

CLOF_HD constexpr int power_of_3(int order) { return order == 0 ? 1 : 3 * power_of_3(order - 1); }

// Components of a tensor of order R, row-major.
template <class S, int R> struct Tensor {
  static constexpr int size = power_of_3(R);
  S at[size];
};

// Frame (Transpose = false) or its transpose on one axis of the tensor.
template <bool Transpose, class S, int R>
CLOF_HD void apply_axis(const Mat3<S>& frame, int axis_stride, Tensor<S, R>& t) {
  for (int outer = 0; outer < Tensor<S, R>::size; outer += 3 * axis_stride) {
    for (int inner = 0; inner < axis_stride; ++inner) {
      S* p = t.at + outer + inner;
      const Vec3<S> v{p[0], p[axis_stride], p[2 * axis_stride]};
      const Vec3<S> u = Transpose ? transposed(frame, v) : frame * v;
      p[0] = u.x;
      p[axis_stride] = u.y;
      p[2 * axis_stride] = u.z;
    }
  }
}

// Gradient of B by s: the tensor's components along the frame.
template <class S, int R> CLOF_HD Tensor<S, R> project(const Mat3<S>& frame, Tensor<S, R> t) {
  for (int stride = 1; stride < Tensor<S, R>::size; stride *= 3) apply_axis<false>(frame, stride, t);
  return t;
}

// Gradient of B by T: the tensor with these components along the frame.
template <class S, int R> CLOF_HD Tensor<S, R> tensorize(const Mat3<S>& frame, Tensor<S, R> s) {
  for (int stride = 1; stride < Tensor<S, R>::size; stride *= 3) apply_axis<true>(frame, stride, s);
  return s;
}

// Adds to the gradient of B by F: over the axes, s contracted with the tensor projected on all other axes.
template <class S, int R>
CLOF_HD void add_form_frame_vjp(const Mat3<S>& frame, const Tensor<S, R>& s, const Tensor<S, R>& t, Mat3<S>& grad) {
  for (int axis = 1; axis < Tensor<S, R>::size; axis *= 3) {
    Tensor<S, R> partly = t;
    for (int stride = 1; stride < Tensor<S, R>::size; stride *= 3) {
      if (stride != axis) apply_axis<false>(frame, stride, partly);
    }
    for (int outer_index = 0; outer_index < Tensor<S, R>::size; outer_index += 3 * axis) {
      for (int inner = 0; inner < axis; ++inner) {
        const S* p = s.at + outer_index + inner;
        const S* q = partly.at + outer_index + inner;
        grad = grad + outer(Vec3<S>{p[0], p[axis], p[2 * axis]}, Vec3<S>{q[0], q[axis], q[2 * axis]});
      }
    }
  }
}

template <class S, int R>
CLOF_HD Mat3<S> form_frame_vjp(const Mat3<S>& frame, const Tensor<S, R>& s, const Tensor<S, R>& t) {
  using T = underlying_t<S>;
  const S zero(T(0));
  const Vec3<S> none{zero, zero, zero};
  Mat3<S> grad{none, none, none};
  add_form_frame_vjp(frame, s, t, grad);
  return grad;
}

}  // namespace CLOF_ISA
}  // namespace clof
