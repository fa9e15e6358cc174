// Transposed copies of matrices, a square of registers at a time.
#pragma once

#include <algorithm>

#include "../shuffle.h"
#include "register.h"

namespace clof {
inline namespace CLOF_ISA {

// x0 y0 x1 y1 ... of the lower (Half = 0) or upper (Half = 1) halves of two registers.
template <class T, int Half> struct Zipped {
  static constexpr int at(int lane) { return Half * Pack<T>::width / 2 + lane / 2 + lane % 2 * Pack<T>::width; }
};
template <int Half, class T> CLOF_HD Pack<T> zipped(Pack<T> x, Pack<T> y) { return shuffle<Zipped<T, Half>>(x, y); }
// One number each: there is nothing to interleave.
template <int Half, class T> CLOF_HD T zipped(T x, T) { return x; }

// Number c of row r becomes number r of row c, for as many rows as a register has numbers.
template <class T> void transpose_square(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  constexpr int side = int(kLanes<T>);
  Register<T> row[side], next[side];
  unrolled<side>([&](int r) { row[r] = load(from + r * from_stride); });
  // In each round the highest bit of a number's row becomes the lowest of its column, and the other way round.
#pragma GCC unroll 4
  for (int round = 1; round < side; round *= 2) {
    unrolled<side / 2>([&](int r) {
      next[2 * r] = zipped<0>(row[r], row[r + side / 2]);
      next[2 * r + 1] = zipped<1>(row[r], row[r + side / 2]);
    });
    unrolled<side>([&](int r) { row[r] = next[r]; });
  }
  unrolled<side>([&](int r) { store(to + r * to_stride, row[r]); });
}

// The same for a part of a square, or between numbers of other types than those computed with.
template <class T, class From, class To>
void transpose_part(const From* from, int64_t from_stride, int64_t rows, int64_t columns, To* to, int64_t to_stride) {
  constexpr int64_t side = kLanes<T>;
  alignas(64) T square[side * side] = {};
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) square[r * side + c] = T(widen(from[r * from_stride + c]));
  }
  transpose_square(square, side, square, side);
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) to[c * to_stride + r] = Narrow<To>::from(square[c * side + r]);
  }
}

// The transpose of a (rows, columns) matrix. T is what is computed with.
template <class T, class From, class To>
void transpose(const From* from, int64_t from_stride, int64_t rows, int64_t columns, To* to, int64_t to_stride) {
  constexpr int64_t side = kLanes<T>;
  for (int64_t r = 0; r < rows; r += side) {
    const int64_t height = std::min(side, rows - r);
    for (int64_t c = 0; c < columns; c += side) {
      const int64_t width = std::min(side, columns - c);
      const From* block = from + r * from_stride + c;
      To* out = to + c * to_stride + r;
      if constexpr (std::is_same_v<From, T> && std::is_same_v<To, T>) {
        if (height == side && width == side) {
          transpose_square(block, from_stride, out, to_stride);
          continue;
        }
      }
      transpose_part<T>(block, from_stride, height, width, out, to_stride);
    }
  }
}

}  // namespace CLOF_ISA
}  // namespace clof
