// Rows and their derivatives in a direction, their tangents, on both ways through an activation.
#pragma once

#include "rows.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> struct RowsWithTangents {
  T *values, *tangents;
};

// Forward: tangents of what enters an activation become those of what leaves it, and its second derivatives (`curves`)
// the tangents of its first ones.
template <class T> void bend(T* tangents, const T* slopes, T* curves, int64_t count) {
  for_registers<T>(count, [&](int64_t c) {
    const Register<T> tangent = load(tangents + c);
    store(curves + c, load(curves + c) * tangent);
    store(tangents + c, load(slopes + c) * tangent);
  });
}

// Backward: gradients of what left an activation become those of what entered it, given its slopes and their tangents.
template <class T>
void unbend(const RowsWithTangents<T>& grad, const T* slopes, const T* slope_tangents, int64_t first, int64_t count) {
  for (int64_t c = first; c < first + count; c += kLanes<T>) {
    const Register<T> value = load(grad.values + c), slope = load(slopes + c);
    store(grad.tangents + c, load(grad.tangents + c) * slope + value * load(slope_tangents + c));
    store(grad.values + c, value * slope);
  }
}

}  // namespace CLOF_ISA
}  // namespace clof
