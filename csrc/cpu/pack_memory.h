// Reading and writing memory for a register full of edges.
#pragma once

#include <cstring>
#include <utility>

#include "../functor/lanes.h"
#include "pack.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> constexpr int lanes_of<Pack<T>> = Pack<T>::width;

template <class T> struct Memory<Pack<T>> {
  template <class U>
  static CLOF_HD Pack<T> load(const U* base, const Rows<Pack<T>>& rows, int64_t stride, int64_t column) {
    return load(base + column, rows, stride, std::make_index_sequence<Pack<T>::width>());
  }
  // As one initialiser, which the compiler turns into register inserts.
  template <class U, size_t... lane>
  static CLOF_HD Pack<T> load(const U* base, const Rows<Pack<T>>& rows, int64_t stride, std::index_sequence<lane...>) {
    return Pack<T>(typename Pack<T>::Vector{T(widen(base[rows.at[lane] * stride]))...});
  }
};

template <class T> struct Lanes<Pack<T>> {
  alignas(CLOF_VECTOR_BYTES) T at[Pack<T>::width];

  CLOF_HD explicit Lanes(Pack<T> x) { std::memcpy(at, &x.lanes, sizeof at); }
};

}  // namespace CLOF_ISA
}  // namespace clof
