// How a functor reads and writes memory for one edge (a plain scalar type) or for a register full of them (a Pack).
#pragma once

#include <utility>

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

// Rows are written as one initialiser, lane by lane: a loop would become vector code, from which every address had to
// be taken out again.
template <class S, class Number, size_t... lane>
CLOF_HD Rows<S> make_rows(const Number& number, std::index_sequence<lane...>) {
  return {{number(lane)...}};
}
template <class S, class Number> CLOF_HD Rows<S> make_rows(const Number& number) {
  return make_rows<S>(number, std::make_index_sequence<lanes_of<S>>());
}

// The rows first, first + 1, ...
template <class S> CLOF_HD Rows<S> consecutive(int64_t first) {
  return make_rows<S>([=](size_t lane) { return first + int64_t(lane); });
}

template <class S> CLOF_HD Rows<S> lookup(const int32_t* table, const Rows<S>& rows) {
  return make_rows<S>([&](size_t lane) { return int64_t(table[rows.at[lane]]); });
}

// C numbers that lie side by side in a row, for the row of each lane.
template <class S, int C> struct Numbers {
  S at[C];
};

template <class S> CLOF_HD Numbers<S, 3> numbers(Vec3<S> v) { return {v.x, v.y, v.z}; }
template <class S> CLOF_HD Numbers<S, 9> numbers(Mat3<S> m) {
  return {m.a.x, m.a.y, m.a.z, m.b.x, m.b.y, m.b.z, m.c.x, m.c.y, m.c.z};
}

// Row r begins at base + r * stride. Specialised for packs in csrc/cpu.
template <class S> struct Memory {
  template <int C, class U> static CLOF_HD Numbers<S, C> load(const U* base, const Rows<S>& rows, int64_t stride) {
    Numbers<S, C> out;
    for (int c = 0; c < C; ++c) out.at[c] = S(underlying_t<S>(widen(base[rows.at[0] * stride + c])));
    return out;
  }
  template <int C, class U>
  static CLOF_HD void store(U* base, const Rows<S>& rows, int64_t stride, const Numbers<S, C>& x) {
    for (int c = 0; c < C; ++c) base[rows.at[0] * stride + c] = Narrow<U>::from(x.at[c]);
  }
  // Rows that follow one another from `to` on, C numbers each.
  template <int C, class U> static CLOF_HD void store_rows(U* to, const Numbers<S, C>& x) {
    store(to, consecutive<S>(0), C, x);
  }
  template <int C, class U>
  static CLOF_HD void accumulate(U* base, const Rows<S>& rows, int64_t stride, const Numbers<S, C>& x) {
    for (int c = 0; c < C; ++c) base[rows.at[0] * stride + c] += x.at[c];
  }
};

template <class S, int C, class U>
CLOF_HD Numbers<S, C> load(const U* base, const Rows<S>& rows, int64_t stride, int64_t column) {
  return Memory<S>::template load<C>(base + column, rows, stride);
}

template <class S, class U> CLOF_HD S load(const U* base, const Rows<S>& rows, int64_t stride, int64_t column) {
  return load<S, 1>(base, rows, stride, column).at[0];
}

template <class S, class U> CLOF_HD Vec3<S> load3(const U* base, const Rows<S>& rows) {
  const Numbers<S, 3> x = load<S, 3>(base, rows, 3, 0);
  return {x.at[0], x.at[1], x.at[2]};
}

// Writes to rows of the lanes' own.
template <class S, int C, class U>
CLOF_HD void store(U* base, const Rows<S>& rows, int64_t stride, int64_t column, const Numbers<S, C>& x) {
  Memory<S>::store(base + column, rows, stride, x);
}

template <class S, class U> CLOF_HD void store(U* base, const Rows<S>& rows, int64_t stride, int64_t column, S x) {
  store(base, rows, stride, column, Numbers<S, 1>{x});
}

// Adds to rows that may coincide, one lane after the other, so that the order of a sum is the order of the edges.
template <class S, int C, class U>
CLOF_HD void accumulate(U* base, const Rows<S>& rows, int64_t stride, int64_t column, const Numbers<S, C>& x) {
  Memory<S>::accumulate(base + column, rows, stride, x);
}

template <class S, class U> CLOF_HD void accumulate3(U* base, const Rows<S>& rows, Vec3<S> v) {
  accumulate(base, rows, 3, 0, numbers(v));
}

// The numbers of a register, one for each lane.
template <class S> struct Lanes {
  underlying_t<S> at[lanes_of<S>];

  CLOF_HD explicit Lanes(S x) { at[0] = x; }
};

}  // namespace CLOF_ISA
}  // namespace clof
