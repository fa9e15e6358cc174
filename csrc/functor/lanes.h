// How a functor reads and writes memory for one edge (a plain scalar type) or for a register full of them (a Pack).
#pragma once

#include "../math/dual.h"
#include "../math/storage.h"
#include "../math/vec3.h"

namespace clof {
inline namespace CLOF_ISA {

template <class S> constexpr int lanes_of = 1;

// Row numbers of the lanes of S.
template <class S> struct Rows {
  int64_t at[lanes_of<S>];
};

// The rows first, first + 1, ...
template <class S> CLOF_HD Rows<S> consecutive(int64_t first) {
  Rows<S> rows;
  for (int lane = 0; lane < lanes_of<S>; ++lane) rows.at[lane] = first + lane;
  return rows;
}

template <class S> CLOF_HD Rows<S> lookup(const int32_t* table, const Rows<S>& rows) {
  Rows<S> found;
  for (int lane = 0; lane < lanes_of<S>; ++lane) found.at[lane] = table[rows.at[lane]];
  return found;
}

// One number of each row. Specialised for packs in csrc/cpu.
template <class S> struct Memory {
  template <class U> static CLOF_HD S load(const U* base, const Rows<S>& rows, int64_t stride, int64_t column) {
    return S(underlying_t<S>(widen(base[rows.at[0] * stride + column])));
  }
};

template <class S, class U>
CLOF_HD S load(const U* base, const Rows<S>& rows, int64_t stride, int64_t column) {
  return Memory<S>::load(base, rows, stride, column);
}

template <class S, class U> CLOF_HD Vec3<S> load3(const U* base, const Rows<S>& rows) {
  return {load<S>(base, rows, 3, 0), load<S>(base, rows, 3, 1), load<S>(base, rows, 3, 2)};
}

// The numbers of a register, one for each lane.
template <class S> struct Lanes {
  underlying_t<S> at[lanes_of<S>];

  CLOF_HD explicit Lanes(S x) { at[0] = x; }
};

// Writes lanes to rows of their own.
template <class S, class U> CLOF_HD void store(U* base, const Rows<S>& rows, int64_t stride, int64_t column, S x) {
  const Lanes<S> lanes(x);
  for (int lane = 0; lane < lanes_of<S>; ++lane) base[rows.at[lane] * stride + column] = Narrow<U>::from(lanes.at[lane]);
}

// Adds lanes to rows that may coincide, one after the other, so that the order of a sum is the order of the edges.
template <class S, class U>
CLOF_HD void accumulate(U* base, const Rows<S>& rows, int64_t stride, int64_t column, S x) {
  const Lanes<S> lanes(x);
  for (int lane = 0; lane < lanes_of<S>; ++lane) base[rows.at[lane] * stride + column] += lanes.at[lane];
}

template <class S, class U> CLOF_HD void accumulate3(U* base, const Rows<S>& rows, Vec3<S> v) {
  accumulate(base, rows, 3, 0, v.x);
  accumulate(base, rows, 3, 1, v.y);
  accumulate(base, rows, 3, 2, v.z);
}

}  // namespace CLOF_ISA
}  // namespace clof
